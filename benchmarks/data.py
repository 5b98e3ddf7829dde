"""Ingest and prepare at growing sizes, and the decoder against torchvision's: `python -m benchmarks.data`.

`--most 100000` is the full run, of about 15 minutes; it needs 4 GB in the folder for temporary files. Without the real
photographs (`--photographs`, a zip) the decoder is not measured.
"""

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import Entry, entry, record
from weathervane import images
from weathervane.duplicates import components, signature
from weathervane.layout import labels
from weathervane.parallel import in_order
from weathervane.progress import say, track

SIZE = 96  # pixels, as in params/prepare.yaml
WORKERS = (0, 1, 2, 4)  # of torchvision's loader
REPEATS = 5
STEPS = ("ingest", "prepare")

# One step in a process of its own, because a peak of memory never goes down.
CHILD = """
import json, resource, sys, time
from pathlib import Path
import pandas, pyarrow.parquet
from weathervane.ingest import Ingest, ingest
from weathervane.prepare import Prepare, prepare

step, root = sys.argv[1], Path(sys.argv[2])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
params = {"dataset": "t", "sources": [{"kind": "local", "path": str(root / "source")}], "test_fraction": 0.2}
params |= {"folds": 5, "seed": 0, "max_bad": 0, "min_per_class": 3}
before, started, cpu = peak(), time.perf_counter(), time.process_time()
if step == "ingest":
    ingest(Ingest.model_validate(params), root)
else:
    prepare(Prepare(image_size=96, shard=4096), root)
measured = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
print(json.dumps(measured | {"before": before, "peak": peak()}))
"""


def main(
    most: Annotated[int, typer.Option(help="images of the largest size: 1000, 10000, 100000; 0: none")] = 1_000,
    photographs: Photographs = DEFAULT,
) -> None:
    """Measure, print and record."""
    entries = [*growth([size for size in (1_000, 10_000, 100_000) if size <= most]), all_pairs(100_000)]
    if photographs.is_file():
        entries += decoding(photographs)
    else:
        say(f"{photographs}: not there: the decoder is not measured")
    record(entries)


def growth(sizes: list[int]) -> Iterator[Entry]:
    """Seconds and memory of both steps at each size; small sizes are measured several times."""
    for size in sizes:
        repeats = max(1, min(REPEATS, 20_000 // size))
        measured: dict[str, list[dict[str, float]]] = {step: [] for step in STEPS}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                generate(Path(folder) / "source", size)
                for step in STEPS:
                    measured[step].append(_measure(step, Path(folder)))
        for step, runs in measured.items():
            thousands = size / 1_000
            yield entry(f"{step}, {size:,} images: time", [run["seconds"] / thousands for run in runs], "s per 1,000")
            yield entry(f"{step}, {size:,} images: CPU", [run["cpu"] / thousands for run in runs], "s per 1,000")
            yield entry(f"{step}, {size:,} images: peak memory", [run["peak"] for run in runs], "MiB")
            grown = [(run["peak"] - run["before"]) / thousands for run in runs]
            yield entry(f"{step}, {size:,} images: memory over imports", grown, "MiB per 1,000")


def generate(source: Path, count: int) -> None:
    """`count` JPEGs of 96x72 pixels in four classes: soft noise, of which no two are alike."""
    rng = np.random.default_rng(count)
    for number in track(range(count), f"generate {count:,} images", count):
        path = source / "abcd"[number % 4] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _picture(rng).save(path, "JPEG", quality=80)


def _picture(rng: np.random.Generator) -> Image.Image:
    cells = Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    return cells.resize((96, 72), Image.Resampling.BILINEAR)


def all_pairs(count: int) -> Entry:
    """The search for near-duplicates among so many images, decoded before."""
    rng = np.random.default_rng(count)
    marks = [signature(_picture(rng)) for _ in range(count)]
    dhash, grey = np.array([mark.dhash for mark in marks]), np.stack([mark.grey for mark in marks])
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        components(dhash, grey)
        seconds.append(time.perf_counter() - started)
    return entry(f"near-duplicates, all pairs of {count:,} images", seconds, "s")


def _measure(step: str, root: Path) -> dict[str, float]:
    command = [sys.executable, "-c", CHILD, step, str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def decoding(archive: Path) -> list[Entry]:
    """Photographs a second, to uint8 pixels of one size: ours on all cores, torchvision's by number of workers."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with zipfile.ZipFile(archive) as packed:
            for name, label in labels([i.filename for i in packed.infolist() if not i.is_dir()], packed=True).items():
                path = folder / str(label) / Path(name).name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(packed.read(name))
        dataset = ImageFolder(str(folder), Compose([Resize(SIZE), CenterCrop(SIZE), PILToTensor()]))
        paths = [Path(path) for path, _ in dataset.samples]
        loaders = {
            workers: DataLoader(dataset, batch_size=64, num_workers=workers, persistent_workers=workers > 0)
            for workers in WORKERS
        }

        def ours() -> Any:
            return in_order(lambda path: images.decode(path.read_bytes(), SIZE), paths)

        for warm in (ours(), *loaders.values()):  # workers are started, files are in the system's cache
            for _ in warm:
                pass
        own: list[float] = []
        theirs: dict[int, list[float]] = {workers: [] for workers in WORKERS}
        for _ in track(range(REPEATS), "decode", REPEATS):
            own.append(_rate(ours(), len(paths)))
            for workers, loader in loaders.items():
                theirs[workers].append(_rate(loader, len(paths)))
    best = max(theirs.values(), key=lambda rates: sorted(rates)[len(rates) // 2])
    return [
        entry(f"decode {len(paths)} photographs to {SIZE} px", own, "photographs/s"),
        *(
            entry(f"decode, torchvision's ImageFolder, {workers} workers", rates, "photographs/s")
            for workers, rates in theirs.items()
        ),
        entry("decode, ratio to torchvision's best", [a / b for a, b in zip(own, best, strict=True)], "times"),
    ]


def _rate(results: Any, count: int) -> float:
    started = time.perf_counter()
    for _ in results:
        pass
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
