"""Ten epochs on photographs that lie on disk, by this project and by what one would else take.

`python -m benchmarks.peers` (`make bench` installs them first). Everyone trains the same network with the same size,
batch and optimiser on the same photographs, in bfloat16 where the device has it, and validates after each epoch; how
pixels come from files to the network is each one's own. The clock begins when everything is imported and the device is
there; for this project it includes ingest (checksums, near-duplicates, the check of every file) and prepare.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import Entry, entry, record
from weathervane import variant
from weathervane.ingest import Ingest, ingest
from weathervane.ledger import Ledger
from weathervane.parallel import cores
from weathervane.prepare import Prepare, prepare
from weathervane.process import settle
from weathervane.progress import say, track
from weathervane.variant import Variant

ROOT = Path(__file__).parents[1]
SIZE, EPOCHS, BATCH, VALIDATION = 64, 10, 32, 0
WORKERS = (cores() // 4, cores() // 2, cores())  # that the tuned loop may choose from
AT_64 = {"size": SIZE, "flip_test": False, "train.epochs": EPOCHS, "train.batch": BATCH}
VARIANTS: dict[str, dict[str, Any]] = {"cnn": AT_64 | {"augment.scale": 1.0}, "dnn": AT_64}


@dataclass(frozen=True)
class Task:
    """What everyone is asked to do."""

    home: Path  # source/ for us, train/ and val/ for the others, a folder a class each
    variant: Variant
    workers: int
    where: str  # cpu, or cuda

    @property
    def device(self) -> Any:
        """A torch.device; torch is not imported before `settle`."""
        from weathervane.device import choose

        return choose(self.where)

    @property
    def bfloat16(self) -> bool:
        """Whether networks learn in it, as ours does."""
        from weathervane.device import has_bfloat16

        return self.variant.train.bfloat16 and has_bfloat16(self.device.type)

    @property
    def lower(self) -> Any:
        """A context in which networks compute in bfloat16, if ours does, when they learn and between epochs."""
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def net(self) -> Any:
        """The network on the device; a torch.nn.Module."""
        from weathervane.model import Spec, build

        one = self.variant
        return build(Spec("peer", one.family, one.network, SIZE, SIZE, classes(self.home), False)).to(self.device)

    def optimizer(self, net: Any) -> Any:
        """SGD or AdamW with the variant's figures."""
        import torch

        told = self.variant.train
        if told.optimizer == "sgd":
            return torch.optim.SGD(net.parameters(), told.lr, 0.9, weight_decay=told.weight_decay, nesterov=True)
        return torch.optim.AdamW(net.parameters(), told.lr, weight_decay=told.weight_decay)


Go = Callable[[], None]


def classes(home: Path) -> list[str]:
    """Names of the class folders."""
    return sorted(path.name for path in (home / "source").iterdir())


def weathervane(task: Task) -> Go:
    """Ingest, prepare, fit."""
    settle()
    for name in ("pandas", "pyarrow.parquet", "rich.progress", "scipy.optimize"):
        import_module(name)  # each is needed on the way

    from weathervane.fit import fit
    from weathervane.store import Store

    def go() -> None:
        root = Path(tempfile.mkdtemp(dir=task.home))  # it goes with `home`: nobody removes what they have just made
        take_in(task.home / "source", root)
        prepare(Prepare(image_size=SIZE, shard=4096), root)
        (root / "training").mkdir()
        store = Store(root / "data/prepared")
        fit("peer", task.variant, store, root / "training", device=task.device, fold=VALIDATION)

    return go


def imagefolder(task: Task) -> Go:
    """The loop of PyTorch's tutorials: ImageFolder and DataLoader as they come."""
    return _loop(task, workers=0, channels_last=False)


def tuned(task: Task) -> Go:
    """The same, tuned by hand: channels last, the best number of workers, which stay."""
    return _loop(task, task.workers, channels_last=True)


def _loop(task: Task, workers: int, channels_last: bool) -> Go:
    import torch
    from torch.nn import functional as F

    train, val = _loaders(task, workers)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    smoothing = task.variant.train.label_smoothing

    def there(held: Any) -> Any:
        return held.to(task.device, non_blocking=True)

    def go() -> None:
        net = task.net().to(memory_format=memory)
        optimizer = task.optimizer(net)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.variant.train.lr, total_steps=EPOCHS * len(train))
        for _ in range(EPOCHS):
            net.train()
            for images, labels in train:
                optimizer.zero_grad()
                with task.lower:
                    out = net(there(images).contiguous(memory_format=memory))
                F.cross_entropy(out.float(), there(labels), label_smoothing=smoothing).backward()
                optimizer.step()
                rate.step()
            net.eval()
            with torch.inference_mode(), task.lower:
                sum((net(there(images)).argmax(1) == there(labels)).sum().item() for images, labels in val)

    return go


def _loaders(task: Task, workers: int) -> tuple[Any, Any]:
    """ImageFolder with torchvision's own version of the variant's augmentation."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    options = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    options["pin_memory"] = workers > 0 and task.device.type == "cuda"  # the tuned loop alone has workers
    train = DataLoader(ImageFolder(str(task.home / "train"), augmentation(task.variant)), shuffle=True, **options)
    val = DataLoader(ImageFolder(str(task.home / "val"), as_it_is()), **options)
    return train, val


def augmentation(one: Variant) -> Any:
    """The variant's policy in torchvision's transforms, from a file's pixels to a normalised tensor."""
    import torch
    from torchvision.transforms import v2

    from weathervane.device import MEAN, STD

    policy = one.augment
    steps = [
        v2.ToImage(),
        v2.RandomResizedCrop(one.size, policy.crop, (1 / policy.ratio, policy.ratio), antialias=True),
        v2.RandomRotation(policy.rotate),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(policy.brightness, policy.contrast, policy.saturation),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    return v2.Compose([*steps, *([v2.RandomErasing(policy.erase)] if policy.erase else [])])


def as_it_is() -> Any:
    """For validation: resized, cropped at the middle, normalised."""
    import torch
    from torchvision.transforms import v2

    from weathervane.device import MEAN, STD

    sized = [v2.ToImage(), v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE)]
    return v2.Compose([*sized, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])


def timm(task: Task) -> Go:
    """timm's dataset, loader and optimiser with the defaults of its training script: 4 workers, its augmentation."""
    import torch
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2
    from torch.nn import functional as F

    from weathervane.device import MEAN, STD

    shared = {"input_size": (3, SIZE, SIZE), "batch_size": BATCH, "num_workers": 4, "device": task.device}
    shared |= {"mean": MEAN, "std": STD}
    train = create_loader(
        create_dataset("", root=str(task.home / "train")), is_training=True, color_jitter=0.4, hflip=0.5, **shared
    )
    val = create_loader(create_dataset("", root=str(task.home / "val")), is_training=False, **shared)

    def go() -> None:
        net, told = task.net().to(memory_format=torch.contiguous_format), task.variant.train
        optimizer = create_optimizer_v2(net, told.optimizer, told.lr, told.weight_decay)
        for _ in range(EPOCHS):
            net.train()
            for images, labels in train:
                optimizer.zero_grad()
                with task.lower:
                    out = net(images)
                F.cross_entropy(out.float(), labels, label_smoothing=told.label_smoothing).backward()
                optimizer.step()
            net.eval()
            with torch.inference_mode(), task.lower:
                sum((net(images).argmax(1) == labels).sum().item() for images, labels in val)

    return go


def lightning(task: Task) -> Go:
    """A LightningModule and a Trainer, on ImageFolder and DataLoader as they come."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch.nn import functional as F

    train, val = _loaders(task, 0)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = task.net().to(memory_format=torch.contiguous_format)

        def training_step(self, batch: Any, _: int) -> Any:
            images, labels = batch
            return F.cross_entropy(self.net(images), labels, label_smoothing=task.variant.train.label_smoothing)

        def validation_step(self, batch: Any, _: int) -> None:
            images, labels = batch
            self.log("accuracy", (self.net(images).argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> Any:
            return task.optimizer(self.net)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    where = {"accelerator": "gpu" if task.device.type == "cuda" else "cpu"}
    where |= {"precision": "bf16-mixed"} if task.bfloat16 else {}

    def go() -> None:
        Trainer(max_epochs=EPOCHS, enable_model_summary=False, **quiet, **where).fit(Module(), train, val)

    return go


def fastai(task: Task) -> Go:
    """ImageDataLoaders and a Learner, with its augmentation and its number of workers."""
    import torch
    from fastai.vision.all import (
        Callback,
        CrossEntropyLossFlat,
        ImageDataLoaders,
        Learner,
        RandomResizedCrop,
        accuracy,
        aug_transforms,
    )

    class Lower(Callback):
        """What its own MixedPrecision does, which is for GPUs alone."""

        def before_batch(self) -> None:
            self.lower = task.lower
            self.lower.__enter__()

        def after_pred(self) -> None:
            self.learn.pred = self.pred.float()

        def after_loss(self) -> None:
            self.lower.__exit__(None, None, None)

    def go() -> None:
        crop = RandomResizedCrop(SIZE, min_scale=task.variant.augment.crop[0])
        data = ImageDataLoaders.from_folder(
            task.home, train="train", valid="val", item_tfms=crop, batch_tfms=aug_transforms(), bs=BATCH
        )
        net = task.net().to(memory_format=torch.contiguous_format)
        learner = Learner(data, net, loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=Lower())
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(EPOCHS, task.variant.train.lr)

    return go


CONTESTANTS: dict[str, Callable[[Task], Go]] = {
    "weathervane": weathervane,
    "imagefolder": imagefolder,
    "imagefolder, tuned": tuned,
    "timm": timm,
    "lightning": lightning,
    "fastai": fastai,
}


def take_in(source: Path, root: Path) -> Ledger:
    """Ingest a folder of class folders into `root`."""
    params = {"dataset": "t", "sources": [{"kind": "local", "path": str(source)}], "test_fraction": 0.2}
    ingest(Ingest.model_validate(params | {"folds": 5, "seed": 0, "max_bad": 0.05, "min_per_class": 3}), root)
    return Ledger.read(root / "data/raw")


def lay_out(archive: Path, home: Path) -> None:
    """source/ with the photographs of train and validation, and the same ones as train/ and val/ for the others."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for row in take_in(archive, root).rows:
            if row.split != "train":
                continue
            for place in ("source", "val" if row.fold == VALIDATION else "train"):
                copy = home / place / row.path
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes((root / "data/raw" / row.path).read_bytes())


def seconds(name: str, home: Path, which: str, workers: int, device: str) -> float:
    """Of one contestant, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.peers", "--alone", name, "--home", str(home), "--variant", which]
    done = subprocess.run(
        [*command, "--workers", str(workers), "--device", device], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(home: Path, which: str, names: list[str], rounds: int, device: str, workers: int | None) -> list[Entry]:
    """Everyone in turn, `rounds` times; ratios are of the same round."""
    if workers is None and "imagefolder, tuned" in names:
        workers = min(WORKERS, key=lambda count: seconds("imagefolder, tuned", home, which, count, device))
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in track(range(rounds), f"{which}, everyone", rounds):
        for name in names:
            taken[name].append(seconds(name, home, which, workers or 0, device))
    own = taken["weathervane"]
    found = [entry(f"{which}, {EPOCHS} epochs at {SIZE} px: {name}", times, "s") for name, times in taken.items()]
    for name in names[1:]:
        unit = f"times, {workers} workers" if "tuned" in name else "times"
        ratios = [theirs / ours for theirs, ours in zip(taken[name], own, strict=True)]
        found.append(entry(f"{which}, speedup vs {name}", ratios, unit))
    return found


def main(
    photographs: Photographs = DEFAULT,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[list[str] | None, typer.Option(help="contestants besides weathervane; all by default")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda; fastai takes a GPU where there is one")] = "cpu",
    which: Annotated[list[str] | None, typer.Option("--variant", help="cnn, dnn; both by default")] = None,
    workers: Annotated[int | None, typer.Option(help="of the tuned loop; the best of a few by default")] = None,
    alone: Annotated[str, typer.Option(hidden=True)] = "",
    home: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    """Measure, print and record."""
    if alone:
        assert which is not None and workers is not None
        task = Task(home, variant.load(ROOT, which[0], VARIANTS[which[0]]), workers, device)
        go = CONTESTANTS[alone](task)
        task.net()  # brings the device, too
        began = time.perf_counter()
        go()
        say(json.dumps(time.perf_counter() - began))
        return
    if not photographs.is_file():
        say(f"{photographs}: not there: nothing is measured")
        raise typer.Exit(1)
    from weathervane.device import choose

    choose(device)  # refused now, if at all
    os.environ["HF_HUB_OFFLINE"] = "1"
    names = ["weathervane", *(only or [name for name in CONTESTANTS if name != "weathervane"])]
    with tempfile.TemporaryDirectory() as folder:
        lay_out(photographs, Path(folder))
        for name in which or VARIANTS:
            record(measure(Path(folder), name, names, rounds, device, workers), choose(device).type)


if __name__ == "__main__":
    typer.run(main)
