"""A model that a real retraining registered, traced back and made once more from the command line."""

import subprocess
import sys

import pytest

from tests.flows.conftest import Home, environment, weathervane
from weathervane import project

pytestmark = pytest.mark.slow
MODEL = "models:/weather-synthetic/1"

WITHOUT_MLFLOW = f"""
import sys
from flows.cli import app
for line in (["lineage", "{MODEL}"], ["lineage", sys.argv[1]]):
    app(line, standalone_mode=False)
assert not {{"mlflow", "torch", "prefect"}} & set(sys.modules)
"""


def test_a_model_is_reproduced_to_the_last_bit(home: Home) -> None:
    """The commit's own code trains, though the work tree's is broken by now: equal weights, status 0, and neither runs,
    aliases nor files are other than before."""
    assert home.first.returncode == 0, home.first.stderr
    code = home.root / "weathervane/fit.py"
    intact, runs = code.read_text(), len(home.runs())
    state = ["git", "status", "--porcelain", "--untracked-files=all"]
    before = subprocess.run(state, cwd=home.root, capture_output=True, text=True).stdout
    code.write_text("raise SystemExit('broken')\n")
    try:
        done = weathervane(home.root, "reproduce", MODEL)
    finally:
        code.write_text(intact)
    assert done.returncode == 0, done.stdout + done.stderr
    weights = home.mlflow.get_model_version("weather-synthetic", "1").tags["weights_sha256"]
    assert f"reproduced, the same weights to the last bit (sha256 {weights})" in done.stdout
    assert "not as it was then" not in done.stdout
    assert subprocess.run(state, cwd=home.root, capture_output=True, text=True).stdout == before
    trees = subprocess.run(["git", "worktree", "list"], cwd=home.root, capture_output=True, text=True).stdout
    assert len(trees.splitlines()) == 1 and not list((home.root / project.WORK).glob("reproduce-*"))
    assert len(home.runs()) == runs
    assert list((home.root / project.VERSIONS).glob("*/data/raw/ledger.csv"))


def test_a_model_and_an_image_are_traced_without_mlflows_client(home: Home) -> None:
    """A model's table and an image's models, from a real retraining, need neither MLflow, torch nor Prefect; a file
    that nobody knows is one line."""
    image = str(next((home.root / project.RAW).glob("*/*.*")))
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW, image],
        cwd=home.root,
        env=environment(home.root, COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    for name in ("model", "decision", "data", "its bytes", "code", "params", "weights", "flow run", "child run"):
        assert f"\n{name} " in f"\n{told.stdout}"
    assert (
        "no uncommitted change of code or params, in this clone" in told.stdout and "in DVC's cache here" in told.stdout
    )
    table = told.stdout.split("what it was to it\n")[1].splitlines()
    assert len(table) == sum(run.info.status == "FINISHED" for run in home.runs("variant"))
    assert any(line.startswith("weather-synthetic 1 ") for line in table)
    unknown = weathervane(home.root, "lineage", str(home.root / "README.md"))
    assert unknown.returncode == 2 and len(unknown.stderr.splitlines()) == 1
