"""Models whose answers a test chooses: a prepared dataset that is an exam, and networks that copy from it.

Each image carries, in its pixel number s, what student s will answer; the student is a real `dnn` that reads that
pixel and nothing else. So real models, stores and runs have exactly the votes that a test asks for.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tasks import tracking
from tasks.plan import Plan, Result
from weathervane.evaluate import hash_of_test_set
from weathervane.model import Model, Spec, build
from weathervane.store import Store, seal

CLASSES = ["cloudy", "rain", "shine"]
SIDE, TRAINED = 8, 12  # pixels; images of train


def exam(folder: Path, *wrong: Iterable[int], images: int = 100, groups: Sequence[str] | None = None) -> Store:
    """A store of so many test images; student s is wrong on the test images number `wrong[s]`."""
    label = np.arange(TRAINED + images) % len(CLASSES)
    pixels = np.zeros((len(label), SIDE * SIDE, 3), np.uint8)
    for student, missed in enumerate(wrong):
        answer = label.copy()
        answer[TRAINED + np.asarray([*missed], int)] += 1
        pixels[np.arange(len(label)), student, answer % len(CLASSES)] = 255
    sha256 = [f"{number:064x}" for number in range(len(label))]
    table = {
        "sha256": sha256,
        "label": [CLASSES[number] for number in label],
        "split": ["train"] * TRAINED + ["test"] * images,
        "fold": [number % 2 for number in range(TRAINED)] + [-1] * images,
        "group": [one[-12:] for one in sha256[:TRAINED]] + list(groups or [one[-12:] for one in sha256[TRAINED:]]),
        "source": ["exam"] * len(label),
        "path": sha256,
        "width": [200] * len(label),
        "height": [200] * len(label),
    }
    (folder / "pixels").mkdir(parents=True)
    np.save(folder / "pixels/00000.npy", pixels.reshape(-1, SIDE, SIDE, 3))
    pq.write_table(pa.table(table), folder / "manifest.parquet")
    seal(folder)
    return Store(folder)


def student(number: int, classes: list[str] = CLASSES) -> Model:
    """The model that answers what the exam's pixel `number` says."""
    network = {"hidden": [3, 3], "dropout": 0.0, "input_size": SIDE}
    spec = Spec(f"student{number}", "dnn", network, SIDE, SIDE, classes, False, {"git_commit": "0123abc"})
    net = build(spec)
    with torch.no_grad():
        first, second, last = (layer for layer in net if isinstance(layer, torch.nn.Linear))
        first.weight.zero_()
        for channel in range(3):
            first.weight[channel, channel * SIDE * SIDE + number] = 1
        second.weight.copy_(torch.eye(3))
        last.weight.copy_(3 * torch.eye(len(classes), 3))
        last.bias.zero_()
    return Model(net, spec, torch.device("cpu"))


def run_of(root: Path, plan: Plan, number: int, folder: Path, *, accuracy: float = 0.9, model: Model | None = None,
           tags: dict[str, str] | None = None) -> Result:  # fmt: skip
    """The MLflow run of student `number`, as `train` and `evaluate` leave it, and its standing."""
    model, store = model or student(number), Store(plan.prepared)
    name, about = model.spec.variant, {"variant": model.spec.variant, "test_set": hash_of_test_set(store)}
    run = tracking.start_run(root, tracking.experiment(root, plan.dataset), name, about | (tags or {}))
    model.save(folder / run, store.pixels(np.arange(8)))
    client = tracking.client(root)
    client.log_artifacts(run, str(folder / run), "model")
    metrics = {"val/accuracy": accuracy, "val/log_loss": 0.1, "test/accuracy": 0.9, "test/macro_f1": 0.9}
    metrics |= {"test/images": 80.0} | {
        f"test/{kind}/{label}": 0.9 for kind in ("recall", "precision", "f1") for label in model.spec.classes
    }
    tracking.log(root, run, metrics=metrics)
    tracking.end_run(root, run)
    return Result(name, run, metrics, reused=False)
