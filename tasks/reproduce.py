"""A model made once more, from the data, the parameters, the seed and the code that its run has on record.

It is trained in a checkout of its commit, in a process of its own. MLflow is only read; the work tree is left alone.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.data_versions import materialise
from tasks.dvc_lock import md5_of_prepared
from tasks.git import checked_out, has_commit
from tasks.locks import DATA, REPRODUCE, lock
from tasks.tracking_inventory import Inventory, Registered
from tasks.training_process import record
from weathervane import lifeline, project
from weathervane.errors import InputError, TrainingError
from weathervane.files import sha256
from weathervane.fingerprint import NUMERIC
from weathervane.progress import say

ACCURACY, LOSS = 0.05, 0.1  # how far validation figures made elsewhere may be from the first ones: a choice


@dataclass(frozen=True)
class Reproduction:
    """A training beside the one that it repeats; each pair is (then, now), of the epoch that was kept."""

    weights: tuple[str, str]  # sha256
    accuracy: tuple[float, float]  # on validation, 0-1
    loss: tuple[float, float]  # on validation, nats
    different: list[str]  # what else was not as it was then, and may change the last bit

    @property
    def same_weights(self) -> bool:
        """To the last bit."""
        return self.weights[0] == self.weights[1]

    @property
    def close(self) -> bool:
        """Accuracy and loss are within `ACCURACY` and `LOSS`."""
        return all(abs(then - now) <= most for (then, now), most in ((self.accuracy, ACCURACY), (self.loss, LOSS)))

    @property
    def holds(self) -> bool:
        """Equal weights or, where something else was different, close figures."""
        return self.same_weights or (bool(self.different) and self.close)


def reproduce(root: Path, stock: Inventory, version: Registered) -> Reproduction:
    """Train a version's model again.

    Raises:
        InputError: its code or its data is not on record, or not here.
        TrainingError: its code does not run here.
    """
    run = stock.runs[version.run_id]
    if "weights_sha256" not in version.tags or run.tags.get("mlflow.parentRunId") not in stock.runs:
        raise InputError(f"{version}: no retraining registered it, so what it was made of is not on record")
    tags = {**stock.runs[run.tags["mlflow.parentRunId"]].tags, **run.tags}
    _refuse_without_code(root, version, tags)
    folder = root / project.WORK / f"reproduce-{version.name}-{version.version}"
    with lock(root, REPRODUCE), checked_out(root, tags["git_commit"], folder) as code:
        with lock(root, DATA):
            raw = materialise(root, tags["data_md5"]) / project.RAW
        (code / project.RAW).symlink_to(raw)
        _run(code, "weathervane.prepare")
        training = code / project.TRAINING / "again"
        training.mkdir(parents=True)
        (training / "job.json").write_text(json.dumps(job_again(root, version, tags, code)), encoding="utf-8")
        _run(code, "weathervane.train", str(training))
        outcome = json.loads((training / "outcome.json").read_text(encoding="utf-8"))
        now = next(m for m in record(training) if m["epoch"] == outcome["best_epoch"])["metrics"]
        then = _kept_epoch(root, version.run_id)
        return Reproduction(
            (version.tags["weights_sha256"], sha256(training / "model/model.safetensors")),
            (then["val_accuracy"], now["val_accuracy"]),
            (then["val_loss"], now["val_loss"]),
            _differences(
                tags, tracking.client(root).get_run(run.run_id).data.metrics, outcome, md5_of_prepared(code, code)
            ),
        )


def _refuse_without_code(root: Path, version: Registered, tags: dict[str, str]) -> None:
    commit, data = tags.get("git_commit", "none"), tags["data_md5"]
    today = f"'weathervane retrain --variants {tags['variant']} --data-version {data}' trains today's on the same data"
    if commit == "none":
        raise InputError(f"{version}: trained outside of git, so its code is not on record: {today}")
    if tags["git_dirty"] == "true":
        raise InputError(
            f"{version}: trained with uncommitted changes on commit {commit}, so its code is not on record: {today}"
        )
    if not has_commit(root, commit):
        raise InputError(f"{version}: its commit {commit} is not in this clone: 'git fetch --all' or --unshallow first")


def job_again(root: Path, version: Registered, tags: dict[str, str], code: Path) -> dict[str, Any]:
    """What job.json says of the training that is to be repeated by the checkout `code`: keys that it may not know are
    left out."""
    variant = json.loads(tags["ingredient.params"])
    if variant["network"].get("sha256"):  # a file of the person's, which the checkout need not have
        variant["network"]["weights"] = str(root / variant["network"]["weights"])
    cpu, threads = tags["device"] == "cpu", min(int(tags["threads"]), os.cpu_count() or 1)
    return {
        "name": tags["variant"],
        "variant": variant,
        "data": str(code / project.PREPARED),
        "device": "cpu" if cpu else "auto",
        "seed": int(tags["seed"]),
        "fold": 0,
        "threads": threads if cpu else 0,
        "about": {"reproduces": f"models:/{version.name}/{version.version}"},
    }


def _run(code: Path, *module: str) -> None:
    """A module of the checkout, which is the working folder and so what Python imports first."""
    say(f"{module[0]}: with the code of that commit")
    command = [sys.executable, "-m", "weathervane.lifeline", *module]
    done = subprocess.run(command, cwd=code, env=lifeline.environment(), capture_output=True, text=True)
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:] or [f"ended with status {done.returncode}"]
        raise TrainingError(f"{module[0]}: {told[0]}")


def _kept_epoch(root: Path, run: str) -> dict[str, float]:
    """Validation figures of the epoch whose weights a run kept."""
    client = tracking.client(root)
    best = int(client.get_run(run).data.metrics["train/best_epoch"])
    return {
        key: next(point.value for point in client.get_metric_history(run, f"epoch/{key}") if point.step == best)
        for key in ("val_accuracy", "val_loss")
    }


def _differences(tags: dict[str, str], metrics: dict[str, float], outcome: dict[str, Any], prepared: str) -> list[str]:
    now = {
        "prepared data": (tags["ingredient.data"], prepared),
        **{name: (tags.get(f"ingredient.{name}", "not on record"), installed(name)) for name in NUMERIC},
        "device": (tags["device_name"], outcome["device_name"]),
        "threads": (tags["threads"], str(outcome["threads"])),
        "precision": tuple(told.get("precision", "not on record") for told in (tags, outcome)),
        "processes": (f"{metrics.get('train/processes', 1):g}", str(outcome.get("processes", 1))),
        "machine": (tags["machine"], platform.node()),
    }
    found = [f"{name} {one} → {other}" for name, (one, other) in now.items() if one != other]
    return found if outcome["device"] == "cpu" else [*found, "on a GPU sums have no fixed order"]
