"""The step `evaluate`: the same images for all; scores, pictures and predictions go to the variant's run."""

import tempfile
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.momentary import RETRY
from tasks.plan import Candidate, Plan, Result
from weathervane.progress import say


@task(name="evaluate", task_run_name="evaluate {candidate.name}", cache_policy=NO_CACHE, **RETRY)
def evaluate(root: Path, plan: Plan, candidate: Candidate, run: str, folder: Path) -> Result:
    """Score the trained model on validation and test, log all of it, and close the run."""
    from weathervane.evaluate import predictions, scores, test_set_hash
    from weathervane.model import Model
    from weathervane.pictures import confusion_picture
    from weathervane.store import Store

    store, model = Store(plan.prepared), Model.load(folder / "model")
    classes = model.spec.classes
    parts = {"val": predictions(model, store, "train", fold=0), "test": predictions(model, store, "test")}
    metrics = {f"{part}/{k}": v for part, table in parts.items() for k, v in scores(table, classes).items()}
    metrics |= {f"{part}/images": float(len(table)) for part, table in parts.items()}
    client = tracking.client(root)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for part, table in parts.items():
            table.to_parquet(work / f"{part}.parquet", index=False)
            client.log_artifact(run, str(work / f"{part}.parquet"), "predictions")
        title = f"{candidate.name}: {len(parts['test'])} test images"
        confusion_picture(parts["test"], classes, title, work / "confusion.png")
        client.log_artifact(run, str(work / "confusion.png"))
    client.log_artifacts(run, str(folder / "model"), "model")
    tracking.log(root, run, metrics=metrics, tags={"test_set": test_set_hash(store)})
    tracking.end_run(root, run)
    result = Result(candidate.name, run, client.get_run(run).data.metrics, reused=False)
    say(f"{candidate.name}: test accuracy {metrics['test/accuracy']:.3f}, validation {metrics['val/accuracy']:.3f}")
    return result
