"""The step `evaluate`: the same images for all; scores, pictures and predictions go to the variant's run."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.momentary import RETRY
from tasks.plan import Candidate, Plan, Result
from tasks.view import PICTURES
from weathervane.progress import say

if TYPE_CHECKING:
    import pandas as pd

    from weathervane.model import Model
    from weathervane.store import Store


@task(name="evaluate", task_run_name="evaluate {candidate.name}", cache_policy=NO_CACHE, **RETRY)
def evaluate(root: Path, plan: Plan, candidate: Candidate, run: str, folder: Path) -> Result:
    """Score the trained model on validation and test, log all of it, and close the run."""
    from PIL import Image

    from weathervane.evaluate import before_scaling, intervals, latency, predictions, scores, test_set_hash
    from weathervane.model import Model
    from weathervane.store import Store

    store, model = Store(plan.prepared), Model.load(folder / "model")
    classes = model.spec.classes
    parts = {"val": predictions(model, store, "train", fold=0), "test": predictions(model, store, "test")}
    metrics = {f"{part}/{k}": v for part, table in parts.items() for k, v in scores(table, classes).items()}
    metrics |= {f"{part}/images": float(len(table)) for part, table in parts.items()}
    metrics |= {f"test/{key}": value for key, value in intervals(parts["test"], classes).items()}
    metrics["test/ece_before_scaling"] = scores(before_scaling(parts["test"], model), classes)["ece"]
    metrics |= {"model/latency_ms": latency(model, store), "model/temperature": model.spec.temperature}
    metrics["model/bytes"] = float((folder / "model/model.safetensors").stat().st_size)
    client = tracking.client(root)
    with tempfile.TemporaryDirectory() as temporary:
        _draw(Path(temporary), model, store, parts["test"], folder / "metrics.jsonl")
        for part, table in parts.items():
            (Path(temporary) / "predictions").mkdir(exist_ok=True)
            table.to_parquet(Path(temporary) / "predictions" / f"{part}.parquet", index=False)
        client.log_artifacts(run, temporary)
        for key in PICTURES:  # once more, in the form that MLflow puts side by side
            with Image.open(Path(temporary) / f"{key}.png") as picture:
                client.log_image(run, picture, key=key, step=0)
    client.log_artifacts(run, str(folder / "model"), "model")
    tracking.log(root, run, metrics=metrics, tags={"test_set": test_set_hash(store)})
    tracking.end_run(root, run)
    result = Result(candidate.name, run, client.get_run(run).data.metrics, reused=False)
    say(f"{candidate.name}: test accuracy {metrics['test/accuracy']:.3f}, validation {metrics['val/accuracy']:.3f}")
    return result


def _draw(folder: Path, model: "Model", store: "Store", test: "pd.DataFrame", record: Path) -> None:
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
    lines = record.read_text(encoding="utf-8").splitlines()
    learning_picture([json.loads(line) for line in lines], name, folder / "learning.png")
