"""Opening and closing the MLflow runs of a retraining or cross-validation: a parent, a child for each variant trained.

What was interrupted is gone on with: the same parent, the same children. So opening twice opens one run.
"""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import runtime

from tasks import tracking
from tasks.changes import prepared_by
from tasks.data import INGEST
from tasks.data_versions import difference
from tasks.dvc_lock import DVC_LOCK, RAW_DVC
from tasks.git import git
from tasks.plan import Candidate, Plan
from tasks.retries import RETRY
from tasks.shown import show
from tasks.step import step
from tasks.tags import BECAME, CLEANED, KINDS, OLDER
from tasks.tracking_read import Run, page, runs, uri
from tasks.training_process import folder_of, run_of
from weathervane import project
from weathervane.errors import InputError
from weathervane.owner import me
from weathervane.progress import say
from weathervane.words import markdown_table, with_interval

LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "mlflow", "prefect", "dvc")
CODE = ("flows", "tasks", "weathervane", "params")
FLOW = {"retraining": "retrain", "crossval": "crossval"}  # the flow, and so the command, by the parent's kind


@step(name="open retraining", task_run_name="open {plan.kind}", **RETRY)
def open_retraining(root: Path, plan: Plan) -> str:
    """The parent run; its id."""
    tags = {
        "kind": plan.kind,
        "dataset": plan.dataset,
        "data_md5": plan.data_md5,
        "seed": str(plan.seed),
        "variants": " ".join(candidate.name for candidate in plan.candidates),
        "why": "; ".join(f"{c.name}: {c.why}" for c in plan.candidates),
        "reused_runs": " ".join(candidate.run.run_id for candidate in plan.candidates if candidate.run),
        "prefect_flow_run_id": str(runtime.flow_run.id or ""),
        "prefect_flow_run": str(runtime.flow_run.name or ""),
        "trigger": str(runtime.deployment.name or "command line"),
        "data_changed": _what_is_new(root, plan),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "machine": platform.node(),
        "fingerprint": plan.fingerprint,
        "owner": me(),
        **({OLDER: "true"} if plan.older else {}),
        **(plan.crossing.told() if plan.crossing else {}),
        **code_tags(root),
        **_source(plan),
    }
    earlier = runs(uri(root), plan.dataset, "fingerprint", [plan.fingerprint])
    interrupted = next((run for run in earlier if run.tags["kind"] == plan.kind and _mine(run)), None)
    if interrupted:
        say(f"going on with the {plan.kind} that was interrupted, run {interrupted.run_id}")
        run = tracking.reopen_run(root, interrupted.run_id, tags)
    else:
        name = time.strftime(f"{FLOW[plan.kind]} %Y-%m-%d %H:%M:%S")
        run = tracking.start_run(root, tracking.experiment(root, plan.dataset), name, tags)
    names = " ".join(sorted(candidate.name for candidate in plan.candidates))  # in one order: a param never changes
    asked = {"seed": plan.seed, "variants": names, **(plan.crossing.told() if plan.crossing else {})}
    tracking.log(root, run, params=asked)
    _log_dataset(root, run, plan)
    for record in (RAW_DVC, DVC_LOCK):  # so that the version is found again if nobody committed them
        if not plan.older:
            tracking.client(root).log_artifact(run, str(root / record), "data")
    return run


@step(name="open variant", task_run_name="open {candidate.name}", **RETRY)
def open_variant(root: Path, plan: Plan, candidate: Candidate, parent: str) -> str:
    """A child run with the variant's parameters, data and fingerprint; its id."""
    tags = {
        "kind": KINDS[plan.kind],
        "variant": candidate.name,
        "family": candidate.variant.family,
        "dataset": plan.dataset,
        "data_md5": plan.data_md5,
        "seed": str(plan.seed),
        "why": candidate.why,
        "prepared_by": prepared_by(root),
        plan.kind: tracking.client(root).get_run(parent).info.run_name,  # sorts the children by time
        "fingerprint": candidate.fingerprint,
        "owner": me(),
        **{f"ingredient.{name}": content for name, content in candidate.ingredients.items()},
        **(plan.crossing.told() if plan.crossing else {}),
        **code_tags(root),
        **_source(plan),
    }
    siblings = runs(uri(root), plan.dataset, "mlflow.parentRunId", [parent])
    told = {"fingerprint": candidate.fingerprint, "variant": candidate.name}  # two names may have equal parameters
    same = (run for run in siblings if told.items() <= run.tags.items())
    if interrupted := next((one for one in same if _mine(one) and _goes_on(root, plan, candidate, one)), None):
        run = tracking.reopen_run(root, interrupted.run_id, tags)
    else:
        name = time.strftime(f"{candidate.name} %m-%d %H:%M:%S")  # charts tell runs apart by their names
        run = tracking.start_run(root, tracking.experiment(root, plan.dataset), name, tags, parent)
    tracking.log(root, run, params=candidate.variant.model_dump(mode="json") | {"seed": plan.seed})
    _log_dataset(root, run, plan)
    return run


def _log_dataset(root: Path, run: str, plan: Plan) -> None:
    """The version of the data as the run's input, with its images by class and by split, unless it is there."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if tracking.client(root).get_run(run).inputs.dataset_inputs:
        return
    source = CodeDatasetSource({"dvc": str(project.RAW), "md5": plan.data_md5})
    data = Dataset(
        plan.dataset,
        plan.data_md5[:36],
        source._get_source_type(),
        source.to_json(),
        profile=json.dumps(plan.images),
    )
    inputs = [DatasetInput(data, [InputTag("mlflow.data.context", "training, validation, test")])]
    tracking.client(root).log_inputs(run, inputs)


def _source(plan: Plan) -> dict[str, str]:
    return {"mlflow.source.name": f"flows/{FLOW[plan.kind]}.py", "mlflow.source.type": "PROJECT"}


def _what_is_new(root: Path, plan: Plan) -> str:
    """What changed in the data since the last retraining that used other data, in words."""
    earlier = runs(uri(root), plan.dataset, "kind", ["retraining"])
    before = next((run.tags["data_md5"] for run in earlier if run.tags.get("data_md5") != plan.data_md5), None)
    if before is None:
        return "nothing: the first version still" if earlier else "the first version"
    try:
        return f"since {before}: {difference(root, before, plan.data_md5)}"
    except InputError as error:
        return f"since {before}: not known: {error}"


def _goes_on(root: Path, plan: Plan, candidate: Candidate, run: Run) -> bool:
    """Whether what it has logged is of the training that goes on here; of one from the start it would be a mixture."""
    if plan.crossing or not any(name.startswith("epoch/") for name in run.metrics):
        return True
    return run_of(folder_of(root, candidate)) == run.run_id


def _mine(run: Run) -> bool:
    """Interrupted, or opened by this process in an attempt whose answer was lost."""
    killed = run.status == "KILLED" and CLEANED not in run.tags
    return killed or (run.status == "RUNNING" and run.tags.get("owner") == me())


@step(name="close variant", **RETRY)
def close_variant(root: Path, run: str, status: str, why: str) -> None:
    """End the run of a variant that came to nothing, with the reason."""
    tracking.log(root, run, tags={"failure": why})
    tracking.end_run(root, run, status)


def close_if_open(root: Path, run: str, status: str, why: str) -> None:
    """`close_variant`, unless it has come to its end meanwhile."""
    if tracking.client(root).get_run(run).info.status == "RUNNING":
        close_variant(root, run, status, why)


@step(name="close retraining", **RETRY)
def close_retraining(
    root: Path,
    parent: str,
    rows: list[dict[str, Any]],
    tags: dict[str, str],
    status: str,
    metrics: dict[str, float] | None = None,
) -> None:
    """The table of all variants as an artifact and as the run's description, the decision as tags, the run closed."""
    if rows:
        tracking.log_tables(root, parent, {"variants.json": rows})
        note = f"**{tags['decision']}:** {tags['decision_why']}\n\n{markdown_table(NOTED, map(_noted, rows))}"
        tags = {**tags, tracking.NOTE: note}
        dataset = tracking.client(root).get_run(parent).data.tags["dataset"]
        show("retraining", dataset, f"{note}\n\n{page(uri(root), parent)}", tags["decision_why"])
        for row in rows:
            if row.get("reused") is False:
                _tell_the_variant(root, row)
    tracking.log(root, parent, tags=tags, metrics=metrics)
    tracking.end_run(root, parent, status)


def _tell_the_variant(root: Path, row: dict[str, Any]) -> None:
    """What came of a variant, as its run's description; whether it was the best as a tag, too."""
    run = tracking.client(root).get_run(row["run_id"])
    accuracy = with_interval(row["test_accuracy"], row["low"], row["high"])
    became = row["decision"] or "not the best by validation"
    told = f"**{became}**{': ' if row['why'] else ''}{row['why']}"
    figures = f"test accuracy {accuracy}, macro-F1 {row['macro_f1']:.3f}, validation accuracy {row['val_accuracy']:.3f}"
    note = f"{told}\n\n{figures}; trained because: {run.data.tags['why']}"
    tags = {tracking.NOTE: note, **({BECAME: row["decision"]} if row["decision"] else {})}
    tracking.log(root, row["run_id"], tags=tags)


NOTED = ["variant", "test accuracy (95 %)", "macro-F1", "validation", "seconds", "run"]


def _noted(row: dict[str, Any]) -> list[str]:
    if "test_accuracy" not in row:
        return [row["variant"], f"failed: {row['why']}", "", "", "", ""]
    accuracy = with_interval(row["test_accuracy"], row["low"], row["high"])
    figures = [f"{row['macro_f1']:.3f}", f"{row['val_accuracy']:.3f}", f"{row['seconds']:.0f}"]
    return [row["variant"], accuracy, *figures, row["run_id"]]


def code_tags(root: Path) -> dict[str, str]:
    """Tags git_commit and git_dirty: whether code, params or dvc.yaml are not those of the commit, files of code that
    were never added included, or git does not say; but for params/ingest.yaml, which a retraining itself writes."""
    head = git(root, "rev-parse", "HEAD")
    if head.returncode:
        return {"git_commit": "none"}
    status = git(root, "status", "--porcelain", "-uno", "--", *CODE, "dvc.yaml")
    unknown = git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE)
    changed = {line[3:] for line in status.stdout.splitlines()} - {str(INGEST)}
    dirty = bool(changed or unknown.stdout or status.returncode or unknown.returncode)
    return {"git_commit": head.stdout.strip(), "git_dirty": json.dumps(dirty)}
