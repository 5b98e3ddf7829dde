"""The step `evaluate`: the same images for all; scores, pictures and predictions go to the variant's run."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import tracking
from tasks.plan import Candidate, Plan, Result
from tasks.retries import RETRY
from tasks.step import step
from tasks.training_process import Lines, record
from tasks.view import PICTURES
from weathervane.errors import InputError, TrainingError
from weathervane.folds import VALIDATION
from weathervane.progress import say

if TYPE_CHECKING:
    import pandas as pd

    from weathervane.model import Model
    from weathervane.store import Store


@step(name="evaluate", task_run_name="evaluate {candidate.name}", **RETRY)
def evaluate(root: Path, plan: Plan, candidate: Candidate, run: str, folder: Path) -> Result:
    """Score the trained model on validation and test, log all of it, and close the run."""
    from weathervane.evaluate import hash_of_test_set, predictions
    from weathervane.model import Model
    from weathervane.pictures.inside import inside_pictures
    from weathervane.store import Store

    store, model = Store(plan.prepared), Model.load(folder / "model")
    try:
        parts = {"val": predictions(model, store, "train", fold=VALIDATION), "test": predictions(model, store, "test")}
    except InputError as error:  # nothing is wrong with what was asked for: this variant fails, and the others go on
        raise TrainingError(f"{candidate.name}: {error}") from None
    metrics = _measure(model, store, parts)
    metrics["model/bytes"] = float((folder / "model/model.safetensors").stat().st_size)
    with tempfile.TemporaryDirectory() as temporary:
        _draw(Path(temporary), model, store, parts["test"], record(folder))
        inside = Path(temporary) / "pictures"
        inside.mkdir()
        inside_pictures(model, store, parts["test"], record(folder, "gradients.jsonl"), inside)
        tables = _write(Path(temporary), parts)
        _log(root, run, Path(temporary))
    client = tracking.client(root)
    client.log_artifacts(run, str(folder / "model"), "model")
    tracking.log(root, run, metrics=metrics, tags={"test_set": hash_of_test_set(store), **tracking.table_tags(tables)})
    tracking.end_run(root, run)
    result = Result(candidate.name, run, client.get_run(run).data.metrics, reused=False)
    say(f"{candidate.name}: test accuracy {metrics['test/accuracy']:.3f}, validation {metrics['val/accuracy']:.3f}")
    return result


def _measure(model: "Model", store: "Store", parts: dict[str, "pd.DataFrame"]) -> dict[str, float]:
    """The run's figures: `val/…` and `test/…`, of which the latter have intervals, and `model/…`."""
    from weathervane.evaluate import before_scaling, latency
    from weathervane.intervals import intervals, scores

    classes, test = model.spec.classes, parts["test"]
    metrics = {f"{part}/{key}": value for part, table in parts.items() for key, value in scores(table, classes).items()}
    metrics |= {f"{part}/images": float(len(table)) for part, table in parts.items()}
    metrics |= {f"test/{key}": value for key, value in intervals(test, classes).items()}
    metrics["test/ece_before_scaling"] = scores(before_scaling(test, model), classes)["ece"]
    return metrics | {"model/latency_ms": latency(model, store), "model/temperature": model.spec.temperature}


def _draw(folder: Path, model: "Model", store: "Store", test: "pd.DataFrame", lines: Lines) -> None:
    """The run's pictures, as PNG files in `folder`."""
    from weathervane.evaluate import before_scaling
    from weathervane.pictures.answers import confusion_picture, curves_picture, reliability_picture
    from weathervane.pictures.learning import learning_picture
    from weathervane.pictures.photographs import mistakes

    name, classes = model.spec.variant, model.spec.classes
    title = f"{name}: {len(test)} test images"
    confusion_picture(test, classes, title, folder / "confusion.png")
    curves_picture(test, classes, title, folder / "curves.png")
    reliability_picture(before_scaling(test, model), test, classes, title, folder / "reliability.png")
    mistakes(test, store, classes, name, folder / "mistakes.png")
    learning_picture(lines, name, folder / "learning.png")


def _write(folder: Path, parts: dict[str, "pd.DataFrame"]) -> list[str]:
    """The predictions, in the form that MLflow shows as a table; their paths below `folder`."""
    (folder / "predictions").mkdir()
    for part, table in parts.items():
        table.to_json(folder / "predictions" / f"{part}.json", orient="split", index=False)
    return [f"predictions/{part}.json" for part in parts]


def _log(root: Path, run: str, folder: Path) -> None:
    """All that is in `folder`; some pictures once more, in the form that MLflow puts side by side."""
    from PIL import Image

    client = tracking.client(root)
    client.log_artifacts(run, str(folder))
    for key in PICTURES:
        with Image.open(folder / f"{key}.png") as picture:
            client.log_image(run, picture, key=key, step=0)
