"""Runs of a retraining and of its variants in MLflow."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.drills.kill import small
from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.runs import code_tags, open_retraining, open_variant
from tasks.training_process import folder_of
from tests.conftest import copy_project

pytestmark = pytest.mark.slow


def test_two_names_for_one_thing_have_a_run_each(project: Path, fresh_database: Path) -> None:
    """Where several variants are at work at once, two with equal parameters, and so equal fingerprints, do not share a
    run; opened again by the same process, as after an answer that was lost, each is gone on with."""
    shutil.copy(fresh_database, project)
    one = Candidate("dnn", small("dnn"), "f" * 32, {}, "test")
    other = replace(one, name="dnn2")
    plan = Plan("test", "1" * 32 + ".dir", project, 0, [one, other], older=False)
    parent = tracking.start_run(project, tracking.experiment(project, "test"), "retrain", {"kind": "retraining"})
    opened = [open_variant.fn(project, plan, candidate, parent) for candidate in (one, other, one, other)]
    assert opened[:2] == opened[2:] and opened[0] != opened[1]


def test_a_run_whose_checkpoints_are_elsewhere_is_not_gone_on_with(project: Path, fresh_database: Path) -> None:
    """What another machine trained and logged before it was killed stays a run of its own: a training from the start
    would keep that one's figures for the epochs that they share. The run whose checkpoints are here is gone on with,
    and so is one that has logged no epoch."""
    shutil.copy(fresh_database, project)
    one = Candidate("dnn", small("dnn"), "f" * 32, {}, "test")
    plan = Plan("test", "1" * 32 + ".dir", project, 0, [one], older=False)
    parent = tracking.start_run(project, tracking.experiment(project, "test"), "retrain", {"kind": "retraining"})

    def opened(epochs: bool) -> str:
        """A run, killed again after it had logged an epoch or not."""
        run = open_variant.fn(project, plan, one, parent)
        lines = [{"epoch": 1, "time": 1.0, "metrics": {"loss": 1.0}}]
        tracking.log_record(project, run, lines if epochs else [], set())
        tracking.end_run(project, run, "KILLED")
        return run

    empty, elsewhere, here = (opened(epochs) for epochs in (False, True, True))
    assert empty == elsewhere != here
    folder = folder_of(project, one)
    folder.mkdir(parents=True)
    for run in (here, elsewhere):
        (folder / "job.json").write_text(json.dumps({"about": {"mlflow_run_id": run}}))
        assert opened(epochs=True) == run


def test_code_that_nobody_has_added_is_on_record(tmp_path: Path) -> None:
    """A module that git does not know cannot be had again by its commit: the run says that its code was changed. A file
    beside the code says nothing."""
    root = copy_project(tmp_path)
    (root / "notes.txt").write_text("mine")
    assert code_tags(root)["git_dirty"] == "false"
    (root / "weathervane/größe.py").write_text("")
    assert code_tags(root)["git_dirty"] == "true"


def test_changed_code_and_params_are_on_record(tmp_path: Path) -> None:
    """So are a module, a variant or the pipeline that differ from the commit; a page, a notebook that was run, and what
    a retraining itself writes are not."""
    root = copy_project(tmp_path)
    for name in ("README.md", "notebooks/retrain.ipynb", "dvc.lock", "params/ingest.yaml"):
        (root / name).write_text((root / name).read_text() + "\n")
    assert code_tags(root)["git_dirty"] == "false"
    for name in ("weathervane/fit.py", "params/models/cnn.yaml", "dvc.yaml"):
        before = (root / name).read_text()
        (root / name).write_text(f"{before}\n")
        assert code_tags(root)["git_dirty"] == "true", name
        (root / name).write_text(before)


def test_variants_may_be_named_in_another_order(
    project: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retraining that was killed is gone on with, in its run, by one that names the same variants otherwise."""
    shutil.copy(fresh_database, project)
    monkeypatch.setattr("tasks.runs._log_dataset", lambda *_: None)
    two = [Candidate(name, small("dnn"), letter * 32, {}, "test") for name, letter in (("a", "f"), ("b", "e"))]
    opened = []
    for candidates in (two, two[::-1]):
        plan = Plan("test", "1" * 32 + ".dir", project, 0, candidates, older=True)
        opened.append(open_retraining.fn(project, plan))
        tracking.end_run(project, opened[-1], "KILLED")
    assert opened[0] == opened[1]
    assert tracking.client(project).get_run(opened[0]).data.params["variants"] == "a b"
