"""The five promises, and the bare libraries on the same test: `python -m benchmarks.bare`; two minutes.

Each figure is a share of trials that went well, for what a project would do without Weathervane and for what it does.
"""

import io
import os
import pickle
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.results import record, share
from flows.environment import apply
from weathervane import checkpoint, images
from weathervane.model import Model, Spec, build
from weathervane.store import changed, seal

EPOCH = 0.02  # seconds between two checkpoints
STATE = {f"layer {number}": torch.zeros(512, 512) for number in range(8)}  # 8 MiB


def killed(write: Callable[[Path, int], object], loads: Callable[[Path], object], trials: int) -> Iterator[bool]:
    """Whether a whole checkpoint loads after a kill at a random moment of a process that writes one after another."""
    chance = random.Random(0)
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            if not (child := os.fork()):
                try:
                    for number in range(1, 10**6):
                        write(Path(folder), number)
                        time.sleep(EPOCH)
                finally:
                    os._exit(1)
            while not any(Path(folder).glob("*")):
                time.sleep(0.001)
            time.sleep(chance.uniform(0.1, 0.3))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            yield bool(loads(Path(folder)))


def torch_loads(folder: Path) -> bool:
    """The one file of whoever calls torch.save on it."""
    try:
        return len(torch.load(folder / "last.pt", weights_only=True)) == len(STATE)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return False


def races(root: Path, trials: int) -> Iterator[bool]:
    """Whether the better of two challengers is champion in the end, where each looks first and then moves the alias."""
    from mlflow import MlflowClient

    address = f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(address)
    client.create_registered_model("bare")
    for number in range(trials):
        for accuracy in ("0.5", "0.6", "0.7"):
            client.create_model_version("bare", f"file:///nowhere/{accuracy}", tags={"accuracy": accuracy})
        weak, better, best = (str(3 * number + place) for place in (1, 2, 3))
        client.set_registered_model_alias("bare", "champion", weak)
        go = time.time() + 0.3
        children = [_challenger(address, version, go) for version in (better, best)]
        for child in children:
            os.waitpid(child, 0)
        yield str(client.get_model_version_by_alias("bare", "champion").version) == best


def _challenger(address: str, version: str, go: float) -> int:
    if child := os.fork():
        return child
    try:
        from mlflow import MlflowClient

        client = MlflowClient(address)
        mine = client.get_model_version("bare", version)
        time.sleep(max(0.0, go - time.time()))
        champion = client.get_model_version_by_alias("bare", "champion")
        if float(mine.tags["accuracy"]) > float(champion.tags["accuracy"]):
            client.set_registered_model_alias("bare", "champion", version)
    finally:
        os._exit(0)


def noticed(trials: int) -> Iterator[tuple[bool, bool]]:
    """Whether the digest of MLflow's dataset, and ours, are others when one pixel of 30,000 images is another."""
    from mlflow.data import from_numpy

    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (30_000, 8, 8, 3), np.uint8)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        (folder / "pixels").mkdir()
        (folder / "manifest.parquet").write_bytes(b"the same")
        np.save(folder / "pixels/00000.npy", pixels)
        seal(folder)
        before = from_numpy(pixels).digest
        for _ in range(trials):
            place = tuple(chance.integers(0, side) for side in pixels.shape)
            pixels[place] ^= 1
            np.save(folder / "pixels/00000.npy", pixels)
            yield from_numpy(pixels).digest != before, changed(folder) is not None
            pixels[place] ^= 1


class Deed:
    """Unpickled, it makes a folder."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.place,)


MLMODEL = """flavors:
  python_function: {{cloudpickle_version: '3', loader_module: mlflow.pyfunc.model, python_model: {name}, env: {{}}}}
mlflow_version: '3'
model_uuid: '0'
"""


def harmless(trials: int) -> Iterator[tuple[bool, bool]]:
    """Whether loading a model whose file was exchanged executes nothing: by mlflow.pyfunc, and by us."""
    import mlflow

    for number in range(trials):
        with tempfile.TemporaryDirectory() as home:
            theirs, ours = Path(home, "theirs"), Path(home, "ours")
            for folder in (theirs, ours):
                folder.mkdir()
            data = pickle.dumps(Deed(f"{home}/canary"), number % 6)
            (theirs / "model.pkl").write_bytes(data)
            (theirs / "MLmodel").write_text(MLMODEL.format(name="model.pkl"))
            _quietly(lambda: mlflow.pyfunc.load_model(str(theirs)))  # noqa: B023
            executed = Path(home, "canary").is_dir()
            if executed:
                Path(home, "canary").rmdir()
            spec = Spec("dnn", "dnn", {"hidden": [4, 4], "dropout": 0.0, "input_size": 8}, 8, 8, ["a", "b"], False)
            Model(build(spec), spec, torch.device("cpu")).save(ours, np.zeros((1, 8, 8, 3), np.uint8))
            (ours / "model.safetensors").write_bytes(data)
            _quietly(lambda: Model.load(ours))  # noqa: B023
            yield not executed, not Path(home, "canary").is_dir()


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:  # what a loader of anything raises is not the question here
        return


def survived(trials: int) -> Iterator[tuple[bool, bool]]:
    """Whether a truncated photograph is told from a whole one without an exception of its reader's: by torchvision's
    ImageFolder, and by us, with a reason."""
    from torchvision.datasets import ImageFolder

    chance = random.Random(0)
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)).save(buffer, "JPEG")
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "rain").mkdir()
        path = Path(home) / "rain/a.jpg"
        for _ in range(trials):
            data = buffer.getvalue()[: chance.randrange(1, len(buffer.getvalue()) - 100)]
            path.write_bytes(data)
            try:
                ImageFolder(home)[0]
                theirs = True
            except OSError:
                theirs = False
            try:
                images.decode(data, 64)
                ours = False
            except images.BadImage as bad:
                ours = bool(bad.reason)
            yield theirs, ours


def main(trials: Annotated[int, typer.Option(help="of each")] = 100) -> None:
    """Measure both sides of each promise, and record it."""
    apply()
    entries = []
    bare = killed(lambda folder, _: torch.save(STATE, folder / "last.pt"), torch_loads, trials)
    entries.append(share("promise: a checkpoint loads after a kill, torch.save on one file", list(bare), "of trials"))
    ours = killed(
        lambda folder, number: checkpoint.write(folder, number, STATE, {}),
        lambda folder: checkpoint.newest(folder) is not None,
        trials,
    )
    entries.append(share("promise: a checkpoint loads after a kill, weathervane", list(ours), "of trials"))
    with tempfile.TemporaryDirectory() as root:
        told = list(races(Path(root), trials))
        what = "the better one of two at once is champion, MLflow's alias after a look"
        entries.append(share(f"promise: {what}", told, "of trials"))
    for what, names, found in (
        ("one changed pixel is noticed", ("MLflow's dataset digest", "weathervane"), noticed(trials)),
        ("loading an exchanged model executes nothing", ("mlflow.pyfunc", "weathervane"), harmless(trials)),
        ("a truncated photograph ends nothing", ("torchvision's ImageFolder", "weathervane"), survived(trials)),
    ):
        for name, column in zip(names, zip(*found, strict=True), strict=True):
            entries.append(share(f"promise: {what}, {name}", list(column), "of trials"))
    record(entries)


if __name__ == "__main__":
    typer.run(main)
