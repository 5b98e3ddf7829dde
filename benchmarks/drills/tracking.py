"""A tracking server that is killed, or slow to answer, while a variant trains: faults 20 and 21.

`python -m benchmarks.drills.tracking --trials 40` prints in how many trainings no metric was lost or doubled, and how
long the training itself was held up at most; with `--delay 5`, how much longer trainings take with the server so many
seconds away.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.drills.kill import ROOT, skies
from benchmarks.drills.noted import noted
from flows import mlflow_server
from flows.environment import apply
from flows.service import Child
from weathervane import project, variant
from weathervane.errors import InputError
from weathervane.progress import say

EPOCHS = 60
HELD_UP, SLOWER = 1.0, 1.05  # seconds that training may stand still; times that it may take as long


class Server:
    """MLflow's server over one database, that can be killed and started again on its port."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, 0
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        arguments = ["--backend-store-uri", f"sqlite:///{self.home}/server.db"]
        arguments += ["--artifacts-destination", str(self.home / "artifacts")]
        log = self.home / "server.log"
        deadline = time.monotonic() + 60
        while True:
            try:
                self.child: Child = mlflow_server.start(ROOT, log, self.port, arguments, {}, "--port")
                break
            except InputError:  # for a moment the port may be somebody's own end of a connection
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        self.port = self.child.port
        self.child.wait()

    def kill(self) -> None:
        """SIGKILL, to it and its workers."""
        if not self.child.ended:
            os.killpg(self.child.process.pid, signal.SIGKILL)
            self.child.process.wait()


@contextmanager
def far_away(port: int, delay: float) -> Iterator[int]:
    """A port on loopback behind which is `port`, only that each thing sent to it arrives `delay` seconds later."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        while data := await reader.read(1 << 16):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back, delay), pump(there, writer, 0.0), return_exceptions=True)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(connected, "127.0.0.1", 0), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def served(home: Path) -> Iterator[Server]:
    """A server, which the process is told to use."""
    server = Server(home)
    try:
        os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{server.port}"
        yield server
    finally:
        server.kill()


@dataclass(frozen=True)
class Trained:
    """What there is to say of a training and its metrics; times in seconds."""

    whole: bool  # each epoch is in MLflow, and once
    ends: list[float]  # of the epochs
    loop: float
    took: float  # the whole step


def training(root: Path, epochs: int, number: int, accident: Callable[[Path], None] = lambda record: None) -> Trained:
    """One training of `epochs` with its record in MLflow, and an `accident`, which is told where metrics.jsonl is."""
    from tasks import tracking
    from tasks.plan import Candidate, Plan
    from tasks.train import How, train
    from tasks.training_process import folder_of, record

    chosen = variant.load(ROOT, "dnn", {"size": 32, "train.epochs": epochs, "network.hidden": [32, 32]})
    candidate = Candidate("dnn", chosen, f"{number:012d}", {}, "drill")
    plan = Plan("drill", "0" * 32 + ".dir", root / project.PREPARED, 0, [candidate], older=False)
    run = tracking.start_run(root, tracking.experiment(root, "drill"), "dnn", {})
    happening = threading.Thread(target=accident, args=(folder_of(root, candidate) / "metrics.jsonl",))
    happening.start()
    began = time.monotonic()
    folder = train.fn(root, plan, candidate, run, How("cpu"))
    took, client = time.monotonic() - began, tracking.client(root)
    happening.join()
    steps = [
        Counter(point.step for point in client.get_metric_history(run, f"epoch/{key}"))
        for key in ("train_loss", "val_loss", "val_accuracy", "lr", "seconds")
    ]
    return Trained(
        whole=all(found == Counter(range(1, epochs + 1)) for found in steps),
        ends=[line["time"] for line in record(folder)],
        loop=json.loads((folder / "outcome.json").read_text(encoding="utf-8"))["seconds"],
        took=took,
    )


def killed(trials: int, home: Path, gone: float, seed: int = 0, epochs: int = EPOCHS) -> tuple[int, float]:
    """The server dies at a random moment of each training and comes back after `gone` seconds at least.

    How many trainings are whole in MLflow, and the longest that one of them was held up, in seconds.
    """
    rng = random.Random(seed)
    with served(home) as server:

        def fault(record: Path) -> None:
            moment = rng.randint(1, epochs - 5)
            while not record.exists() or record.read_bytes().count(b"\n") < moment:
                time.sleep(0.02)
            server.kill()
            time.sleep(gone)
            server.start()

        found = [training(home, epochs, number, fault) for number in range(trials)]
    pauses = [[after - before for before, after in pairwise(one.ends)] for one in found]
    return sum(one.whole for one in found), max(max(own) - median(own) for own in pauses)


def slow(trials: int, home: Path, delay: float, epochs: int = EPOCHS) -> list[tuple[Trained, Trained]]:
    """Pairs of trainings, with the server near and with it `delay` seconds away, in turn."""
    found = []
    with served(home) as server, far_away(server.port, delay) as far:
        for number in range(trials):
            pair = []
            for place, port in enumerate((server.port, far)):
                os.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
                pair.append(training(home, epochs, 2 * number + place))
            found.append((pair[0], pair[1]))
    return found


def main() -> None:
    """The drill by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--gone", type=float, default=2.0, help="seconds that the server is away, its start apart")
    parser.add_argument("--delay", type=float, help="no kills, but so many seconds before what is sent arrives")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    asked = parser.parse_args()
    apply()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        skies(home)
        if asked.delay is None:
            whole, pause = killed(asked.trials, home, asked.gone, epochs=asked.epochs)
            say(f"{whole} of {asked.trials} curves whole in MLflow; training held up {pause:.2f} s at most")
            whole = whole if pause <= HELD_UP else 0
            noted(20, asked.trials, whole)
        else:
            pairs = slow(asked.trials, home, asked.delay, asked.epochs)
            whole = sum(far.whole for _, far in pairs)
            ratios = sorted(far.loop / near.loop for near, far in pairs)
            waits = sorted(far.took - near.took for near, far in pairs)
            say(
                f"{whole} of {asked.trials} curves whole in MLflow; the training takes {median(ratios):.3f} times as "
                f"long ({ratios[0]:.3f} to {ratios[-1]:.3f}; {pairs[0][0].loop:.0f} s), the step with what goes to "
                f"MLflow before and after it {median(waits):.0f} s more"
            )
            noted(21, asked.trials, sum(far.whole and far.loop <= SLOWER * near.loop for near, far in pairs))
    sys.exit(whole < asked.trials)


if __name__ == "__main__":
    main()
