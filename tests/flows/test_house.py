"""Keeping house from the command line: shown first, removed with --yes, backed up, restored."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import tracking
from tests.conftest import Here

pytestmark = pytest.mark.slow

WITHOUT_MLFLOW = """
import sys
from flows.cli import app
for line in (["clean"], ["data", "gc"]):
    app(line, standalone_mode=False)
assert "mlflow" not in sys.modules and "torch" not in sys.modules
"""


@pytest.fixture
def store(project: Path, fresh_database: Path) -> Path:
    """A project whose store holds two retrainings, a year old; the second one counts."""
    shutil.copy(fresh_database, project)
    client, experiment = tracking.client(project), tracking.experiment(project, "weather")
    for _ in range(2):
        tags = {"kind": "retraining", "decision": "not promoted", "data_md5": "1" * 32 + ".dir"}
        run = tracking.start_run(project, experiment, "retrain", tags)
        client.log_text(run, "0123456789", "variants.json")
        tracking.end_run(project, run)
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("UPDATE runs SET end_time = end_time - 365 * 86400000")
    return project


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "mlruns").rglob("*") if path.is_file())


def test_clean_shows_first(store: Path, here: Here) -> None:
    """Without --yes there is a table and nothing changes; with it the same things go; then there is nothing to do."""
    shown = here(store, "clean")
    assert shown.returncode == 0, shown.stderr
    assert "artifacts of retraining runs  1         10 bytes  metrics and parameters stay" in shown.stdout
    assert "old enough, but kept: 1 run of the last settled retraining of weather" in shown.stdout
    assert "nothing is removed yet: --yes removes it" in shown.stdout
    assert files(store) == ["variants.json"] * 2
    assert "nothing to remove" in here(store, "clean", "--older-than", "60w").stdout
    done = here(store, "clean", "--older-than", "51w", "--yes")
    assert (done.returncode, files(store)) == (0, ["variants.json"]), done.stderr
    assert "removed: 1 thing, 10 bytes" in done.stdout
    assert "nothing to remove" in here(store, "clean").stdout


def test_a_wrong_age_and_a_wrong_file_are_told(store: Path, here: Here) -> None:
    """Bad input is one line and status 2, from the options and from params/retention.yaml."""
    wrong = here(store, "clean", "--older-than", "soon", "--yes")
    assert (wrong.returncode, wrong.stderr) == (2, "weathervane: --older-than soon: the form is 24h, 90d or 12w\n")
    params = store / "params/retention.yaml"
    params.write_text(params.read_text().replace("logs:", "lgos:"))
    wrong = here(store, "clean", "--yes")
    assert wrong.returncode == 2 and "unknown key 'lgos' (did you mean 'logs'?)" in wrong.stderr
    assert files(store) == ["variants.json"] * 2


def test_a_store_is_backed_up_and_restored(store: Path, here: Here) -> None:
    """`backup` names the file; `restore` refuses to overwrite, and with --force says what the old store is called."""
    made = here(store, "backup", "store.tar")
    assert made.returncode == 0 and "store.tar: 3 files, " in made.stdout, made.stderr
    refused = here(store, "restore", "store.tar")
    assert refused.returncode == 2 and "mlflow.db and mlruns would be overwritten" in refused.stderr
    restored = here(store, "restore", "store.tar", "--force")
    assert restored.returncode == 0, restored.stderr
    assert "set aside: mlflow.db.before-" in restored.stdout and "restored: 3 files as they were on" in restored.stdout
    assert files(store) == ["variants.json"] * 2
    ignored = subprocess.run(["git", "status", "--porcelain"], cwd=store, capture_output=True, text=True)
    assert "before" not in ignored.stdout


def test_data_gc_tells_what_is_lost(store: Path, here: Here) -> None:
    """A model whose data is nowhere is named with it."""
    client = tracking.client(store)
    client.create_registered_model("weather")
    (run, *_) = client.search_runs(["1"])
    client.create_model_version("weather", run.info.artifact_uri, run.info.run_id)
    told = here(store, "data", "gc")
    assert told.returncode == 0, told.stderr
    assert f"lost: the data {'1' * 32}.dir of weather 1: neither DVC's cache nor a remote has all of it" in told.stdout
    assert "nothing to remove" in told.stdout


def test_listing_imports_neither_mlflow_nor_torch(store: Path) -> None:
    """What only looks is answered without the seconds that MLflow's client takes."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW],
        cwd=store,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["backup", "x.tar"], ["restore", "x.tar"]])
def test_a_servers_store_is_not_ours_to_copy(store: Path, here: Here, command: list[str]) -> None:
    """With a server, one line says who backs it up."""
    told = here(store, *command, MLFLOW_TRACKING_URI="http://anna:secret@127.0.0.1:9")
    assert told.returncode == 2 and "backed up by whoever runs the server" in told.stderr
    assert "secret" not in told.stderr and len(told.stderr.splitlines()) == 1
