"""Runs of a retraining and of its variants in MLflow."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.drills.kill import small
from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.runs import open_variant

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
