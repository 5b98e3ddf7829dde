"""Training on 1,000, 10,000 and 100,000 images: `python -m benchmarks.growth`.

The images are noise in a store of their own; a network of dense layers, which is over soonest, waits for data most. The
limit on pixels that stay on the device is such that all but the smallest come from disk.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.results import Entry, entry, record
from weathervane.process import settle
from weathervane.progress import say, track

ROOT = Path(__file__).parents[1]
SIZE, SHARD = 64, 4096
LIMIT = 50e6  # bytes of pixels that stay on the device: some 4,000 images
STEPS = {"cpu": 300, "cuda": 3000}
CLASSES = ["cloudy", "rain", "shine", "sunrise"]


def main(
    most: Annotated[int, typer.Option(help="images of the largest size")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    device: Annotated[str, typer.Option(help="as of 'weathervane retrain'")] = "cpu",
    alone: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure, print and record."""
    if alone:
        say(json.dumps(train(Path(alone), device)))
        return
    from weathervane.device import choose

    choose(device)  # refused now, if at all
    entries = list[Entry]()
    with tempfile.TemporaryDirectory() as folder:
        sizes = [size for size in (1_000, 10_000, 100_000) if size <= most]
        for size in sizes:
            generate(Path(folder) / str(size), size)
        measured: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
        for _ in track(range(rounds), "train", rounds):
            for size in sizes:
                command = [sys.executable, "-m", "benchmarks.growth", "--alone", str(Path(folder) / str(size))]
                done = subprocess.run(
                    [*command, "--device", device], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
                )
                measured[size].append(json.loads(done.stdout.splitlines()[-1]))
    for size, runs in measured.items():
        entries.append(entry(f"growth_images_per_second, {size:,}", [run["speed"] for run in runs], "images/s"))
        entries.append(entry(f"growth_memory, {size:,}", [run["memory"] for run in runs], "MiB over imports"))
    level = [
        last["speed"] / first["speed"] for first, last in zip(measured[sizes[0]], measured[sizes[-1]], strict=True)
    ]
    record([*entries, entry("growth_level", level, "of the smallest's speed")], choose(device).type)


def generate(folder: Path, count: int) -> None:
    """A prepared dataset of `count` images of noise, four fifths of them for training."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from weathervane.store import MANIFEST, seal, shard_name

    rng, numbers = np.random.default_rng(count), np.arange(count)
    names = [f"{number:064x}" for number in numbers]
    columns: dict[str, Any] = {"sha256": names, "label": [CLASSES[number % 4] for number in numbers]}
    columns |= {
        "split": ["train"] * count,
        "fold": numbers % 5,
        "group": names,
        "source": ["noise"] * count,
        "path": names,
    }
    columns |= {"width": [SIZE] * count, "height": [SIZE] * count}
    for number, first in enumerate(range(0, count, SHARD)):
        path = folder / shard_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.integers(0, 256, (min(SHARD, count - first), SIZE, SIZE, 3), dtype=np.uint8))
    pq.write_table(pa.table(columns), folder / MANIFEST)
    seal(folder)


def train(folder: Path, device: str) -> dict[str, float]:
    """Images a second over STEPS steps, and MiB that were taken meanwhile, without those of files, which go back."""
    settle()
    import torch

    from weathervane import variant
    from weathervane.device import choose
    from weathervane.fit import run_epoch
    from weathervane.model import Spec
    from weathervane.parts import load_fold
    from weathervane.ranks import Ranks
    from weathervane.state import begin
    from weathervane.store import Store

    store, one, where = Store(folder), variant.load(ROOT, "dnn", {"size": SIZE}), choose(device)
    len(store.manifest["label"])
    before = anonymous()
    part, _ = load_fold(store, one, 0, where, LIMIT)
    spec = Spec("dnn", one.family, one.network, one.size, store.size, store.classes, one.flip_test)
    state, done, most = begin(spec, one.train, len(part.labels), where, 0, Ranks()), 0, 0.0
    steps, idle = STEPS[where.type], torch.cuda.synchronize if where.type == "cuda" else lambda: None
    while done < steps:
        for _ in run_epoch(state, part, one, Ranks()):
            if done == steps // 10:  # warm
                idle()
                began = time.perf_counter()
            done, most = done + 1, max(most, anonymous())
            if done == steps:
                break
        state.draws, state.losses = None, []
    idle()
    counted = steps - steps // 10 - 1
    return {"speed": counted * one.train.batch / (time.perf_counter() - began), "memory": most - before}


def anonymous() -> float:
    """MiB of this process's own memory, files that are mapped left out."""
    status = Path("/proc/self/status")
    if status.is_file():
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if "RssAnon" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    typer.run(main)
