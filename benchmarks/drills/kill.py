"""Trainings that are killed with SIGKILL at random moments: fault 29.

`python -m benchmarks.drills.kill --trials 300` prints how many of the trainings came to the very weights and the very
metrics of one that was never killed. Each is killed up to three times, in processes forked after torch was imported.
"""

import argparse
import hashlib
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.drills.noted import noted
from weathervane import resume, variant
from weathervane.fit import fit
from weathervane.ingest import Ingest, ingest
from weathervane.prepare import Prepare, prepare
from weathervane.progress import say
from weathervane.store import Store
from weathervane.variant import Variant

ROOT = Path(__file__).parents[2]
SMALLER = {"size": 32, "train.epochs": 5, "train.batch": 8}
NETWORKS: dict[str, dict[str, Any]] = {
    "ann": {"network.hidden": 32},
    "dnn": {"network.input_size": 32, "network.hidden": [64, 32]},
    "cnn": {"network.width": 8},
    "rnn": {"network.hidden": 32},
    "lstm": {"network.hidden": 32},
    "cnn_lstm": {"network.width": 8},
    "transfer": {"network.backbone": "squeezenet1_1", "network.weights": "none", "network.input_size": 32},
}
DRILLED = ["cnn", "dnn", "lstm"]
KILLS = 3


def skies(root: Path) -> Store:
    """4 x 15 rendered skies at 32 pixels."""
    sources = [{"kind": "synthetic", "per_class": 15, "seed": 0}]
    params = {"dataset": "drill", "sources": sources, "test_fraction": 0.2, "folds": 3, "seed": 0}
    ingest(Ingest.model_validate(params | {"max_bad": 0.0, "min_per_class": 10}), root)
    prepare(Prepare(image_size=32, shard=4096), root)
    return Store(root / "data/prepared")


def small(name: str) -> Variant:
    """A default variant on small images, with all that its file says but for the size of things."""
    return variant.load(ROOT, name, SMALLER | NETWORKS[name])


def forked(work: Callable[[], object], patience: float | None = None) -> bool:
    """Do the work in a child; after `patience` seconds it is killed. True if it came to its end.

    Raises:
        RuntimeError: the child failed by itself.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    if patience is not None:
        time.sleep(patience)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the training ended with status {status}")
    return status == 0


def result(folder: Path) -> dict[str, Any]:
    """What must not depend on kills: the bytes of the model, and every figure of the record but the times."""
    files = ("model.safetensors", "model.json", "probe.safetensors")
    found: dict[str, Any] = {name: hashlib.sha256((folder / "model" / name).read_bytes()).hexdigest() for name in files}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found["record"] = [(line["epoch"], line["metrics"] | {"seconds": 0}) for line in lines]
    return found


def trial(work: Callable[[Path], object], folder: Path, seconds: float, rng: random.Random) -> int:
    """Start the work again and again, killed at random moments of its `seconds`, then once to its end; the kills."""
    folder.mkdir(parents=True)
    kills = 0
    for _ in range(rng.randint(1, KILLS)):
        if forked(lambda: work(folder), rng.uniform(0, seconds)):
            break
        kills += 1
    forked(lambda: work(folder))
    return kills


def drill(names: list[str], trials: int, seed: int, home: Path) -> Counter[str]:
    """So many trials, by turns over the variants; how many `kills` there were, and how many results were `equal`."""
    torch.set_num_threads(1)
    store, rng, tally = skies(home / "data"), random.Random(seed), Counter[str]()
    wanted, seconds = {}, {}
    for name in names:
        folder = home / name
        folder.mkdir()
        started = time.perf_counter()
        forked(partial(fit, name, small(name), store, folder, device=torch.device("cpu")))
        wanted[name], seconds[name] = result(folder), time.perf_counter() - started
    for number in range(trials):
        name = names[number % len(names)]
        every_step = number % 2 == 1

        def work(folder: Path, name: str = name, every_step: bool = every_step) -> None:
            resume.RATE = math.inf  # as in a training whose epochs take seconds: each has its checkpoint
            if every_step:  # as in one whose epochs take hours
                resume.LONG, resume.SHARE = 0.0, math.inf
            fit(name, small(name), store, folder, device=torch.device("cpu"))

        folder = home / f"{name}-{number}"
        tally["kills"] += trial(work, folder, seconds[name], rng)
        tally["equal"] += result(folder) == wanted[name]
        tally["trials"] += 1
    return tally


def main() -> None:
    """The drill by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", default=DRILLED)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        tally = drill(asked.variants, asked.trials, asked.seed, Path(home))
    told = f"{tally['equal']} of {tally['trials']} trainings, killed {tally['kills']} times,"
    say(f"{told} came to equal weights and metrics")
    noted(29, tally["trials"], tally["equal"])
    sys.exit(tally["equal"] < tally["trials"])


if __name__ == "__main__":
    main()
