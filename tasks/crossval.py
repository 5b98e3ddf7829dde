"""The steps of a cross-validation: a fold of a variant, a variant's folds together, all variants together."""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.retries import RETRY, patiently
from tasks.shown import show
from tasks.step import step
from tasks.tracking_read import page, uri
from tasks.training_process import folder_of, job_of, train_in_child
from weathervane.fingerprint import digest
from weathervane.folds import Outer, placed
from weathervane.progress import say

if TYPE_CHECKING:
    import pandas as pd

RECORD = "crossval.json"  # the parent's artifact that holds all of it
PREDICTIONS = "predictions/out_of_fold.json"


@dataclass(frozen=True)
class Fold:
    """What came of one: what the model said of the images that it had never seen, and what outcome.json says."""

    table: "pd.DataFrame"
    outcome: dict[str, Any]


@step(name="train fold", task_run_name="train {candidate.name}, fold {fold}")
def train_fold(root: Path, plan: Plan, candidate: Candidate, fold: int, run: str, device: str) -> Fold:
    """Train a variant without an outer fold, unless that was done before an interruption, and predict that fold.

    Raises:
        InputError: bad input that only the child could notice, such as a device that is not there.
        TrainingError: the training failed, or its process died.
    """
    from weathervane.crossval import POOLED
    from weathervane.evaluate import predictions
    from weathervane.intervals import scores
    from weathervane.model import Model
    from weathervane.store import Store

    one, outer = _fold_of(plan, candidate, fold)
    folder, name = folder_of(root, one), f"{candidate.name}, fold {fold + 1} of {outer.folds}"
    if (folder / "outcome.json").is_file():  # written when all else was
        outcome = dict(json.loads((folder / "outcome.json").read_text(encoding="utf-8")))
        say(f"{name}: trained already")
    else:
        job = job_of(root, plan, one, run, device, outer=outer)
        outcome = train_in_child(root, folder, job, name, lambda lines, ended: None)
    for note in outcome["notes"]:
        say(f"{name}: {note}")
    model, store = Model.load(folder / "model"), placed(Store(plan.prepared), outer)
    table = predictions(model, store, "test").drop(columns="split").assign(fold=fold)
    found = scores(table, model.spec.classes)
    figures = {name: found[name] for name in POOLED}
    figures |= {key: float(outcome[key]) for key in ("val_accuracy", "best_epoch", "seconds")}
    line = {"fold": fold, "time": (folder / "outcome.json").stat().st_mtime, "metrics": figures}
    patiently(lambda: tracking.log_record(root, run, [line], tracking.recorded(root, run, "fold"), "fold"))
    say(f"{name}: accuracy {figures['accuracy']:.3f} on {len(table)} images, {outcome['seconds']:.0f} s of training")
    return Fold(table, outcome)


@step(name="pool folds", task_run_name="pool {candidate.name}", **RETRY)
def pool_folds(root: Path, plan: Plan, candidate: Candidate, run: str, folds: list[Fold]) -> str:
    """The out-of-fold predictions of all images to the variant's run, with pictures, and the run closed; its id."""
    import pandas as pd

    from weathervane.crossval import pooled
    from weathervane.machine import machine
    from weathervane.pictures.answers import confusion_picture
    from weathervane.pictures.photographs import mistakes
    from weathervane.store import Store

    table, store = pd.concat([fold.table for fold in folds], ignore_index=True), Store(plan.prepared)
    classes, outcomes = store.classes, [fold.outcome for fold in folds]
    tracking.log_tables(root, run, {PREDICTIONS: table.to_dict("records")})
    with tempfile.TemporaryDirectory() as temporary:
        title = f"{candidate.name}: {len(table)} images, each predicted by a model that had not seen it"
        confusion_picture(table, classes, title, Path(temporary) / "confusion.png")
        mistakes(table, store, classes, candidate.name, Path(temporary) / "mistakes.png")
        tracking.client(root).log_artifacts(run, temporary)
    (row,), _ = pooled({candidate.name: table}, classes)
    metrics = {f"pooled/{name}": value for name, value in row.items() if name != "variant"}
    metrics |= {f"train/{key}": sum(o[key] for o in outcomes) / len(outcomes) for key in ("seconds", "parameters")}
    devices = sorted({outcome["device_name"] for outcome in outcomes} - {"cpu"})
    tags = {"machine": ", ".join([machine(), *devices])}
    tags |= {"precision": " and ".join(sorted({outcome["precision"] for outcome in outcomes}))}
    tracking.log(root, run, metrics=metrics, tags=tags)
    tracking.end_run(root, run)
    for fold in range(len(folds)):
        shutil.rmtree(folder_of(root, _fold_of(plan, candidate, fold)[0]), ignore_errors=True)
    return run


@step(name="close crossval", **RETRY)
def close_crossval(
    root: Path, plan: Plan, parent: str, children: dict[str, str], failed: dict[str, str], command: str
) -> dict[str, Any]:
    """All variants side by side: tables, picture and description of the parent run, which is closed; what it found.

    Args:
        children: variant → its finished run, of this cross-validation or of an earlier one.
        failed: variant → why it came to nothing.
        command: that makes all of it again.
    """
    from weathervane.bootstrap import DRAWS
    from weathervane.crossval import leader, markdown, pooled
    from weathervane.pictures.tradeoff import tradeoff_picture
    from weathervane.store import Store

    assert plan.crossing is not None
    client, record = tracking.client(root), _about(plan, parent, failed, command)
    if children:
        tables = {name: out_of_fold(root, run) for name, run in children.items()}
        rows, pairs = pooled(tables, Store(plan.prepared).classes)
        for row in rows:
            data = client.get_run(children[row["variant"]]).data
            row |= {"seconds": data.metrics["train/seconds"], "parameters": int(data.metrics["train/parameters"])}
            row |= {name: data.tags[name] for name in ("machine", "precision")} | {"run_id": children[row["variant"]]}
        any_one = next(iter(tables.values()))
        record |= {"rows": rows, "pairs": pairs, "images": len(any_one), "groups": int(any_one["group"].nunique())}
        record["draws"] = DRAWS
        tracking.log_tables(root, parent, {"variants.json": rows, **({"pairs.json": pairs} if pairs else {})})
        client.log_dict(parent, record, RECORD)
        with tempfile.TemporaryDirectory() as temporary:
            title = f"{plan.dataset}: {len(any_one)} images, {plan.crossing.folds} folds"
            tradeoff_picture(rows, title, Path(temporary) / "tradeoff.png")
            client.log_artifacts(parent, temporary)
        tracking.log(root, parent, tags={tracking.NOTE: markdown(record)})
        show("crossval", plan.dataset, f"{markdown(record)}\n\n{page(uri(root), parent)}", leader(record))
    tracking.end_run(root, parent, "FAILED" if failed else "FINISHED")
    return record


def out_of_fold(root: Path, run: str) -> "pd.DataFrame":
    """The out-of-fold predictions of a variant's run."""
    import pandas as pd

    return pd.DataFrame(**_json(root, run, PREDICTIONS))


def record_of(root: Path, parent: str) -> dict[str, Any]:
    """What `close_crossval` returned."""
    return _json(root, parent, RECORD)


def _json(root: Path, run: str, name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(tracking.client(root).download_artifacts(run, name, temporary))
        return dict(json.loads(path.read_text(encoding="utf-8")))


def _fold_of(plan: Plan, candidate: Candidate, fold: int) -> tuple[Candidate, Outer]:
    """A fold as a training of its own, with the fingerprint of one."""
    assert plan.crossing is not None
    outer = Outer(**plan.crossing.model_dump(), fold=fold, seed=plan.seed)
    return replace(candidate, fingerprint=digest(candidate.ingredients | {"fold": str(fold)})), outer


def _about(plan: Plan, parent: str, failed: dict[str, str], command: str) -> dict[str, Any]:
    """What was asked, of which data, when."""
    assert plan.crossing is not None
    return {
        "dataset": plan.dataset,
        "data_md5": plan.data_md5,
        "seed": plan.seed,
        **plan.crossing.model_dump(),
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "run_id": parent,
        "rows": [],
        "pairs": [],
        "failed": failed,
    }
