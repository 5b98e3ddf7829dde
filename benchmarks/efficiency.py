"""How much of a training step is the network's own, and how fast augmented batches are made.

`python -m benchmarks.efficiency`, on real photographs (`--photographs`, a zip by class). Ratios of measurements that
follow one another in one process.
"""
# ruff: noqa: E402

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from weathervane.process import settle

settle()  # as a training does, before torch is imported: its threads wait no longer here than there

import torch
import typer
from torch import Tensor

from benchmarks.peers import augmentation, take_in
from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import Entry, entry, record
from weathervane import variant
from weathervane.batches import batches
from weathervane.cuda_graph import SEEN
from weathervane.device import choose, has_bfloat16, normalise
from weathervane.fit import run_epoch, step
from weathervane.model import Spec
from weathervane.parallel import cores
from weathervane.parts import Part, load_fold
from weathervane.prepare import Prepare, prepare
from weathervane.progress import track
from weathervane.ranks import Ranks
from weathervane.state import State, begin
from weathervane.store import Store

ROOT = Path(__file__).parents[1]
WORKERS = (cores() // 2, cores(), 2 * cores())  # of torchvision's loader
LARGEST = 96  # pixels, as in params/prepare.yaml
ALONE = Ranks()


def main(
    photographs: Photographs = DEFAULT,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    device: Annotated[str, typer.Option(help="as of 'weathervane retrain'")] = "auto",
    only: Annotated[list[str] | None, typer.Option(help="fit, bfloat16, compile, data; all by default")] = None,
) -> None:
    """Measure, print and record."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        take_in(photographs, root)
        prepare(Prepare(image_size=LARGEST, shard=4096), root)
        store, where = Store(root / "data/prepared"), choose(device)
        parts: dict[str, Callable[[], list[Entry]]] = {
            "fit": lambda: [fit_efficiency(name, store, where, rounds) for name in variant.defaults(ROOT)],
            "bfloat16": lambda: [
                one for name in variant.defaults(ROOT) for one in bfloat16(name, store, where, rounds)
            ],
            "compile": lambda: compiled("cnn", store, where, rounds),
            "data": lambda: pipeline("cnn", store, root / "data/raw", where, rounds),
        }
        for name in only or parts:
            record(parts[name](), where.type)


def compiled(name: str, store: Store, device: torch.device, rounds: int) -> list[Entry]:
    """Seconds of the first step with train.compile, and how many steps of an eager one the later steps come to."""
    first, ratios = switched("train.compile", name, store, device, rounds)
    kind = f"{name} on {device.type}"
    return [
        entry(f"compile, {kind}: first step", [first], "s"),
        entry(f"compile, {kind}: speed of a step", ratios, "of an eager one"),
    ]


def bfloat16(
    name: str, store: Store, device: torch.device, rounds: int, changes: dict[str, Any] | None = None
) -> list[Entry]:
    """How many steps in float32, without TF32, one in bfloat16 comes to; nothing where the device lacks it."""
    if not has_bfloat16(device.type):
        return []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        _, ratios = switched("train.bfloat16", name, store, device, rounds, changes)
    one = variant.load(ROOT, name, changes)
    what = f"bfloat16, {name} at {one.size} px, batches of {one.train.batch}"
    return [entry(what, ratios, "times as fast as float32")]


def switched(
    key: str, name: str, store: Store, device: torch.device, rounds: int, changes: dict[str, Any] | None = None
) -> tuple[float, list[float]]:
    """Of a switch of the variant: seconds of the first step with it, and how many without it a later one comes to."""
    steps = {}
    for on in (False, True):
        one, state, train = ready(name, store, device, (changes or {}) | {key: on})
        steps[on] = constant(state, train, one)
    first = taken(steps[True], device)

    def ten(on: bool) -> float:
        return taken(lambda: [steps[on]() for _ in range(10)], device)

    ten(True), ten(False)  # warm, and recorded on a GPU
    return first, [ten(False) / ten(True) for _ in track(range(rounds), f"{name}: {key}", rounds)]


def fit_efficiency(name: str, store: Store, device: torch.device, rounds: int) -> Entry:
    """Speed of an epoch with data and augmentation ÷ that of as many steps on one batch that stays where it is."""
    one, state, train = ready(name, store, device)
    alone, steps = constant(state, train, one), len(train.labels) // one.train.batch

    def with_data() -> None:
        for _ in run_epoch(state, train, one, ALONE):
            pass
        state.draws, state.losses = None, []

    def network() -> None:
        for _ in range(steps):
            state.losses.append(alone())
            state.schedule.step()
        state.losses = []

    ratios = []
    for _ in range(SEEN + 1):  # the last of them is the recording, on a GPU
        taken(network, device), taken(with_data, device)
    for _ in track(range(rounds), f"{name}: fit", rounds):
        own = taken(network, device)
        ratios.append(own / taken(with_data, device))
    return entry(f"fit_efficiency, {name} on {device.type}", ratios, "of the network alone")


def pipeline(name: str, store: Store, raw: Path, device: torch.device, rounds: int) -> list[Entry]:
    """Augmented, normalised batches a second, against ImageFolder and torchvision's version of the same policy."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    one, state, train = ready(name, store, device)
    steps = len(train.labels) // one.train.batch
    images = steps * one.train.batch

    def ours() -> None:
        state.draws = None
        for made, _ in batches(state, train, one):
            normalise(made)

    dataset = ImageFolder(str(raw), augmentation(one))
    loaders = {
        workers: DataLoader(dataset, one.train.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        for workers in WORKERS
    }

    def theirs(workers: int) -> Callable[[], None]:
        def go() -> None:
            for images, _ in loaders[workers]:
                images.to(device)

        return go

    for loop in (*[ours] * (SEEN + 1), *map(theirs, WORKERS)):
        taken(loop, device)
    speed: dict[str, list[float]] = {"ours": [], **{str(workers): [] for workers in WORKERS}}
    for _ in track(range(rounds), "batches", rounds):
        speed["ours"].append(images / taken(ours, device))
        for workers in WORKERS:
            speed[str(workers)].append(len(dataset) / taken(theirs(workers), device))
    best = max(map(str, WORKERS), key=lambda workers: sorted(speed[workers])[rounds // 2])
    side = round(one.augment.scale * one.size)
    moved = 3 * (one.size**2 + 4 * side**2)  # bytes an image at least: read as uint8, written as float32
    share = [moved * rate / bandwidth(device) for rate in speed["ours"]]
    ratios = [a / b for a, b in zip(speed["ours"], speed[best], strict=True)]
    return [
        entry(f"augmented batches of {name}", speed["ours"], "images/s"),
        entry(f"augmented batches of {name}, ImageFolder", speed[best], f"images/s with {best} workers"),
        entry("data_speedup_vs_imagefolder", ratios, f"times, {best} workers"),
        entry(f"augmented batches of {name}, share of the memory's bandwidth", share, "of a copy's"),
    ]


def ready(
    name: str, store: Store, device: torch.device, changes: dict[str, Any] | None = None
) -> tuple[variant.Variant, State, Part]:
    """A variant before its first step, with its training images."""
    one = variant.load(ROOT, name, changes)
    train, _ = load_fold(store, one, 0, device)
    spec = Spec(name, one.family, one.network, one.size, store.size, store.classes, one.flip_test)
    state = begin(spec, one.train, len(train.labels), device, 0, ALONE)
    state.net.train()
    return one, state, train


def constant(state: State, train: Part, one: variant.Variant) -> Callable[[], Tensor]:
    """A step as `run_epoch` takes it, always on the same batch."""
    images, targets = next(batches(state, train, one))
    state.draws, work = None, partial(step, state, one.train.label_smoothing)
    return lambda: state.recorder.run("constant", work, images, targets)


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy reads and writes, the best of five."""
    block = torch.empty(1 << 27, dtype=torch.uint8, device=device).fill_(1)
    other = torch.empty_like(block)
    return 2 * block.numel() / min(taken(lambda: other.copy_(block), device) for _ in range(5))


def taken(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds, with all that the device still had to do."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
