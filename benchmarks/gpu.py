"""What can only be said of a GPU: `python -m benchmarks.gpu`, on real photographs (`--photographs`, a zip by class).

Whether it is ever idle while it trains, what recording steps brings, what bfloat16 does in large batches, and what a
variant's recipe reaches and takes: each outer fold of a cross-validation, as `weathervane crossval` makes them. The
rest of what is measured there is that of a CPU with `--device cuda`: benchmarks.efficiency, peers, growth and predict.
"""

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from threading import Event, Thread
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.efficiency import ALONE, LARGEST, bfloat16, ready, taken
from benchmarks.peers import take_in
from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import Entry, entry, record
from weathervane import variant
from weathervane.cuda_graph import SEEN, GraphRecorder
from weathervane.device import choose
from weathervane.fit import METRICS, fit, run_epoch
from weathervane.folds import VALIDATION, Outer, placed
from weathervane.model import Model
from weathervane.prepare import Prepare, prepare
from weathervane.process import settle
from weathervane.progress import track
from weathervane.store import Store

ROOT = Path(__file__).parents[1]
LARGE = {"size": 128}
LONG = 300  # epochs in which the GPU is watched
EVERY = 0.1  # seconds
FOLDS, SEED = 5, 0  # as in benchmarks/crossval.json
DEEP = {"size": 128, "train.batch": 128}


def main(
    photographs: Photographs = DEFAULT, rounds: Annotated[int, typer.Option(min=1)] = 15, device: str = "cuda"
) -> None:
    """Measure, print and record."""
    settle()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        take_in(photographs, root)
        prepare(Prepare(image_size=LARGE["size"], shard=4096), root)
        record(of_steps(Store(root / "data/prepared"), choose(device), rounds, root), device)
        prepare(Prepare(image_size=LARGEST, shard=4096), root)
        names = variant.defaults(ROOT)
        record(
            [one for name in names for one in recipe(name, Store(root / "data/prepared"), choose(device), root)], device
        )


def of_steps(store: Store, device: torch.device, rounds: int, root: Path) -> list[Entry]:
    """Figures that need no training to its end."""
    names = variant.defaults(ROOT)
    found = [busy("cnn", store, device, root), kernels("cnn", store, device, rounds)]
    found += [recorded(name, store, device, rounds) for name in names]
    return found + bfloat16("cnn", store, device, rounds, DEEP)


def busy(name: str, store: Store, device: torch.device, root: Path) -> Entry:
    """Share of the time in which the GPU runs something, by its driver (NVML), from a fit's first epoch to its end.

    Validation, gradients and records are in it.
    """
    (home := root / "watched").mkdir()
    one, over = variant.load(ROOT, name, LARGE | {"train.epochs": LONG}), Event()
    seen = list[float]()

    def watch() -> None:
        while not over.wait(EVERY):
            if (home / METRICS).is_file():
                seen.append(torch.cuda.utilization(device) / 100)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        fit(name, one, store, home, device=device)
    finally:
        over.set()
        watcher.join()
    return entry(f"gpu_busy, {name} at {one.size} px, {LONG} epochs", seen[5:], "of the time, NVML's readings")


def kernels(name: str, store: Store, device: torch.device, rounds: int) -> Entry:
    """What all kernels of an epoch take by themselves ÷ the epoch's time without a profiler."""
    from torch.profiler import ProfilerActivity, profile

    epoch = whole(name, store, device, LARGE)
    times = [taken(epoch, device) for _ in track(range(rounds), f"{name}: epochs", rounds)]
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        taken(epoch, device)
    own = sum(one.self_device_time_total for one in profiled.key_averages()) / 1e6
    return entry(
        f"kernels' share of an epoch, {name} at {LARGE['size']} px", [own / one for one in times], "of its time"
    )


def recorded(name: str, store: Store, device: torch.device, rounds: int) -> Entry:
    """How many epochs that the host launches kernel by kernel one of recorded steps comes to."""
    there, launched = whole(name, store, device), whole(name, store, device, recorder=GraphRecorder(False))
    ratios = [taken(launched, device) / taken(there, device) for _ in track(range(rounds), f"{name}: epochs", rounds)]
    return entry(f"recorded steps, {name} on {device.type}", ratios, "times as fast as launched")


def whole(
    name: str,
    store: Store,
    device: torch.device,
    changes: dict[str, Any] | None = None,
    recorder: GraphRecorder | None = None,
) -> Callable[[], None]:
    """An epoch, and as many behind it as it takes until all is recorded."""
    one, state, train = ready(name, store, device, changes)
    state.recorder = recorder or state.recorder

    def epoch() -> None:
        for _ in run_epoch(state, train, one, ALONE):
            pass
        state.draws, state.losses = None, []

    for _ in range(SEEN + 1):
        epoch()
    return epoch


def recipe(name: str, store: Store, device: torch.device, root: Path) -> list[Entry]:
    """Accuracy on images that no fold's model has seen, and what the training of a fold takes."""
    one, rights, seconds, memory = variant.load(ROOT, name), list[float](), [], []
    for fold in track(range(FOLDS), f"{name}: folds", FOLDS):
        (home := root / name / str(fold)).mkdir(parents=True)
        crossed = placed(store, Outer(folds=FOLDS, fold=fold, seed=SEED))
        gc.collect()
        torch.cuda.reset_peak_memory_stats(device)
        outcome = fit(name, one, crossed, home, device=device, fold=VALIDATION)
        seconds.append(outcome.seconds)
        memory.append(torch.cuda.max_memory_allocated(device) / 2**20)
        rows, model = crossed.part("test"), Model.load(home / "model", device)
        guesses = model.probabilities(crossed.pixels(rows)).argmax(1)
        rights.append(float(np.mean(np.array(crossed.classes)[guesses] == crossed.manifest["label"][rows])))
    kind = f"{name} on {device.type}"
    return [
        Entry(
            f"recipe, {kind}: accuracy", round(mean(rights), 4), "mean of the folds", FOLDS, (min(rights), max(rights))
        ),
        entry(f"recipe, {kind}: a fold's training", seconds, "s"),
        entry(f"recipe, {kind}: peak memory", memory, "MiB"),
    ]


if __name__ == "__main__":
    typer.run(main)
