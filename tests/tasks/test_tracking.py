"""MLflow's local store: made once, whoever comes first, and readable by everybody's MLflow."""

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import tracking
from tasks.retries import is_transient
from tasks.tracking_read import check_server
from weathervane.errors import InputError

# Forks, so that all of them begin within milliseconds of each other.
FIRST_STARTS = """
import os, sys, time, traceback
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store
from tasks import tracking

root = Path(sys.argv[1])

def start(name):
    if child := os.fork():
        return child
    try:
        tracking.experiment(root, name)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

killed, half = start("killed"), root / "mlflow.db.new"
while not (half.is_file() and half.stat().st_size):
    time.sleep(0.001)
time.sleep(float(sys.argv[2]))
os.kill(killed, 9)
os.waitpid(killed, 0)
print(half.is_file(), (root / "mlflow.db").exists())
children = [start(name) for name in ("rain", "shine", "snow")]
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_a_server_that_is_started_anew_may_be_asked_again() -> None:
    """A refused connection that our own REST call has put into words is a matter of a moment, as is a lost one; a
    server that does not know the thing is not."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(InputError) as refused:
        check_server(f"http://127.0.0.1:{port}")
    assert is_transient(refused.value)
    assert is_transient(ConnectionResetError()) and not is_transient(InputError("no such version"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a local store that nobody has written to yet."""
    root = tmp_path_factory.mktemp("local")
    tracking.client(root)
    return root


@pytest.mark.fault(26)
@pytest.mark.fault(25, drilled=30)
@pytest.mark.slow
def test_three_first_starts_at_once_all_work_even_after_a_killed_one(tmp_path: Path, again: int) -> None:
    """Several retrainings may be the first on a machine, and one that is killed while it makes the store spoils it
    for nobody."""
    command = [sys.executable, "-c", FIRST_STARTS, str(tmp_path), str(again * 0.03)]  # seconds into the migration
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["True False", "[0, 0, 0]"], done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".weathervane", "mlflow.db"]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = [name for (name,) in database.execute("SELECT name FROM experiments ORDER BY name")]
    assert names == ["Default", "rain", "shine", "snow"]


def test_a_bare_client_opens_it_and_artifacts_land_beside_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow ui` in the project's folder shows runs and pictures, wherever in the project the command was given."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    run = tracking.start_run(root, tracking.experiment(root, "weather"), "cnn", {"kind": "variant"})
    tracking.client(root).log_text(run, "picture", "confusion.png")
    tracking.end_run(root, run)
    bare = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (found,) = bare.search_runs([bare.get_experiment_by_name("weather").experiment_id])
    assert (found.info.run_id, found.info.run_name, found.info.status) == (run, "cnn", "FINISHED")
    assert Path(bare.download_artifacts(run, "confusion.png")).read_text() == "picture"
    assert [path.read_text() for path in (root / "mlruns").rglob("confusion.png")] == ["picture"]
    assert Path(bare.get_experiment("0").artifact_location).parent == root / "mlruns"
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_is_made_once_and_brought_back_when_deleted(root: Path) -> None:
    """Deleting an experiment in MLflow's pages does not stop the next retraining."""
    made = tracking.experiment(root, "snow")
    assert tracking.experiment(root, "snow") == made
    tracking.client(root).delete_experiment(made)
    assert tracking.experiment(root, "snow") == made
    assert tracking.client(root).get_experiment(made).lifecycle_stage == "active"


def test_two_first_starts_on_one_server_share_an_experiment(root: Path) -> None:
    """Where another clone has made it between the look and the making, that one is taken."""
    made = tracking.experiment(root, "raced")
    assert tracking._created(tracking.client(root), "raced", None) == made


def test_parameters_are_flat_and_a_child_knows_its_parent(root: Path) -> None:
    """In MLflow's table, `train.epochs` is a column, and variants fold under their retraining."""
    experiment = tracking.experiment(root, "weather")
    parent = tracking.start_run(root, experiment, "retrain", {})
    child = tracking.start_run(root, experiment, "cnn", {}, parent)
    tracking.log(root, child, params={"size": 64, "train": {"epochs": 3, "crop": [0.5, 1.0]}}, metrics={"loss": 0.5})
    tracking.log(root, child, tags={"note": "ü"})
    data = tracking.client(root).get_run(child).data
    assert data.params == {"size": "64", "train.epochs": "3", "train.crop": "[0.5, 1.0]"}
    assert data.metrics == {"loss": 0.5}
    assert data.tags["note"] == "ü"
    assert data.tags["mlflow.parentRunId"] == parent


def test_nothing_is_doubled_however_often_it_is_logged(root: Path) -> None:
    """A training's record and its results, copied again from the beginning after an interruption or a lost answer,
    stand in MLflow once; what came later is added, and the run is the same one, running again."""
    run = tracking.start_run(root, tracking.experiment(root, "weather"), "cnn", {})
    lines = [{"epoch": n, "time": 100.5 + n, "metrics": {"loss": 1 / n, "lr": 0.1}} for n in range(1, 6)]
    client = tracking.client(root)
    for upto in (3, 3, 5):
        tracking.log_record(root, run, lines[:upto], set())
        tracking.log_record(root, run, [line | {"time": 900.0} for line in lines[:upto]], tracking.recorded(root, run))
        tracking.log(root, run, metrics={"test/accuracy": 0.9})
    assert tracking.recorded(root, run) == {(f"epoch/{key}", n) for key in ("loss", "lr") for n in range(1, 6)}
    for key, steps in (("epoch/loss", [1, 2, 3, 4, 5]), ("test/accuracy", [0])):
        assert [point.step for point in client.get_metric_history(run, key)] == steps
    tracking.log(root, run, tags={"failure": "its process is gone"})
    tracking.end_run(root, run, "KILLED")
    assert tracking.reopen_run(root, run, {"owner": "me"}) == run
    again = client.get_run(run)
    assert again.info.status == "RUNNING"
    assert again.data.tags["owner"] == "me" and "failure" not in again.data.tags


def test_a_store_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLFLOW_TRACKING_URI may name a database in a folder that is not there yet; artifacts land beside it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared/runs.db")
    (tmp_path / "project").mkdir()
    experiment = tracking.experiment(tmp_path / "project", "weather")
    with sqlite3.connect(tmp_path / "shared/runs.db") as database:
        ((location,),) = database.execute("SELECT artifact_location FROM experiments WHERE name = 'weather'")
    assert location == str(tmp_path / "shared/mlruns/weather")
    assert experiment


def test_an_unknown_kind_of_address_is_told() -> None:
    """A misspelt MLFLOW_TRACKING_URI is one clear line."""
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI htp://tracking"):
        check_server("htp://tracking.example.org")
