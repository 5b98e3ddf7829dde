"""A tracking server that is killed and started again while a variant trains: FAULTS row 20.

`python -m benchmarks.drills.tracking --trials 40` prints in how many trainings no metric was lost or doubled, and how
long the training itself was held up at most.
"""

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.drills.kill import ROOT, skies
from flows.environment import apply
from weathervane import lifeline, project, variant
from weathervane.progress import say

EPOCHS = 60


class Server:
    """MLflow's server on loopback, over one database, that can be killed and started again on its port."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "weathervane.lifeline", "mlflow", "server", "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.home}/server.db", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--artifacts-destination", str(self.home / "artifacts")]
        environment = lifeline.environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.home / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"MLflow's server did not come up: see {self.home}/server.log")

    def kill(self) -> None:
        """SIGKILL, to it and its workers."""
        import signal

        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def trial(root: Path, server: Server, epochs: int, gone: float, rng: random.Random, number: int) -> dict[str, Any]:
    """One training of `epochs`; the server dies at a random moment and comes back after `gone` seconds at least."""
    from tasks import tracking
    from tasks.plan import Candidate, Plan
    from tasks.train import train

    chosen = variant.load(ROOT, "dnn", {"size": 32, "train.epochs": epochs, "network.hidden": [32, 32]})
    candidate = Candidate("dnn", chosen, f"{number:012d}", {}, "drill")
    plan = Plan("drill", "0" * 32 + ".dir", root / project.PREPARED, 0, [candidate], older=False)
    run = tracking.start_run(root, tracking.experiment(root, "drill"), "dnn", {})
    record = root / project.TRAINING / f"dnn-{candidate.fingerprint[:12]}" / "metrics.jsonl"

    def fault() -> None:
        moment = rng.randint(1, epochs - 5)
        while not record.exists() or record.read_bytes().count(b"\n") < moment:
            time.sleep(0.02)
        server.kill()
        time.sleep(gone)
        server.start()

    accident = threading.Thread(target=fault)
    accident.start()
    train.fn(root, plan, candidate, run, "cpu")
    accident.join()
    client = tracking.client(root)
    steps = {
        key: Counter(point.step for point in client.get_metric_history(run, f"epoch/{key}"))
        for key in ("train_loss", "val_loss", "val_accuracy", "lr", "seconds")
    }
    from tasks.child import record as lines_of

    times = [line["time"] for line in lines_of(record.parent)]
    pauses = [after - before for before, after in pairwise(times)]
    return {
        "whole": all(found == Counter(range(1, epochs + 1)) for found in steps.values()),
        "held up": max(pauses) - median(pauses),
    }


def drill(trials: int, home: Path, seed: int = 0, epochs: int = EPOCHS, gone: float = 2.0) -> tuple[int, float]:
    """How many trainings are whole in MLflow, and the longest that one of them was held up, in seconds."""
    apply()
    skies(home)
    server, rng = Server(home), random.Random(seed)
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    try:
        server.start()
        found = [trial(home, server, epochs, gone, rng, number) for number in range(trials)]
    finally:
        server.kill()
    return sum(one["whole"] for one in found), max(one["held up"] for one in found)


def main() -> None:
    """The drill by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--gone", type=float, default=2.0, help="seconds that the server is away, its start apart")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        whole, pause = drill(asked.trials, Path(home), gone=asked.gone)
    say(f"{whole} of {asked.trials} curves whole in MLflow; training held up {pause:.2f} s at most")
    sys.exit(whole < asked.trials)


if __name__ == "__main__":
    main()
