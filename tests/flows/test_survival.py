"""What is left of a retraining that was killed, and how the next start goes on: faults 28, 33, 34 and 38."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.drills.boundary import STAGES, found
from tests.conftest import copy_project
from tests.flows.conftest import WEATHERVANE, Home, environment, smaller, weathervane

pytestmark = pytest.mark.slow
PLACES = [(stage, when) for stage in STAGES for when in ("before", "after")]


def start(home: Home, *arguments: str) -> "subprocess.Popen[str]":
    command = [str(WEATHERVANE), "retrain", *arguments]
    env = environment(home.root, PREFECT_API_URL=home.api, WEATHERVANE_OWN_SERVER="1")
    return subprocess.Popen(command, cwd=home.root, env=env, stdout=subprocess.PIPE, text=True)


def trained(home: Home, process: "subprocess.Popen[str]", name: str, epochs: int) -> None:
    """Wait until a new training of the variant has so many epochs on record."""
    folder, deadline = home.root / ".weathervane/training", time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline
        records = sorted(folder.glob(f"{name}-*/metrics.jsonl"), key=os.path.getmtime)
        fresh = records and records[-1].stat().st_mtime > time.time() - 5
        if fresh and len(records[-1].read_text().splitlines()) >= epochs:
            return
        time.sleep(0.1)


def curve(home: Home, run: Any) -> list[int]:
    return [point.step for point in home.mlflow.get_metric_history(run.info.run_id, "epoch/val_loss")]


@pytest.mark.fault(34, drilled=10)
@pytest.mark.fault(33)
@pytest.mark.fault(38)
def test_a_killed_retraining_is_gone_on_with(home: Home, again: int) -> None:
    """Killed with SIGKILL while it trains, a retraining leaves no process behind 10 s later; the same command goes on:
    the same parent, the same child, each epoch once, and Prefect shows the killed flow run as crashed. One more at once
    says for whom it waits, and then finds nothing to do."""
    known = {run.info.run_id for run in home.runs()}
    asked = ["--variants", "dnn", "--set", f"train.epochs={120 + again}"]
    process = start(home, *asked)
    trained(home, process, "dnn", 20)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    left = {run.info.run_name.split()[0]: run for run in home.runs() if run.info.run_id not in known}
    assert {name: run.info.status for name, run in left.items()} == {"retrain": "RUNNING", "dnn": "RUNNING"}
    assert home.flow_run(left["retrain"])[0] == "Running"

    going_on, said = start(home, *asked), ""
    assert going_on.stdout is not None
    for line in going_on.stdout:
        said += line
        if line.startswith("going on with the retraining"):
            break
    second = weathervane(home.root, "retrain", *asked, PREFECT_API_URL=home.api)
    said += going_on.stdout.read()
    assert going_on.wait(60) == 0, said
    assert f"going on with the retraining that was interrupted, run {left['retrain'].info.run_id}" in said
    assert f"its process {process.pid} on " in said
    assert "dnn: went on in epoch" in said and "(bit-exact)" in said
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"waiting for other work in {home.root}: process {going_on.pid} on " in second.stdout
    assert "nothing to do: dnn unchanged since run" in second.stdout
    runs = [run for run in home.runs() if run.info.run_id not in known]
    assert {run.info.run_id: run.info.status for run in runs} == {run.info.run_id: "FINISHED" for run in left.values()}
    assert home.flow_run(left["retrain"])[0] == "Crashed"
    (parent, child) = sorted(runs, key=lambda run: run.data.tags["kind"])
    assert home.flow_run(parent)[0] in ("Promoted", "Not promoted")
    assert "failure" not in parent.data.tags | child.data.tags
    assert curve(home, child) == list(range(1, 121 + again))
    folder = home.root / f".weathervane/training/dnn-{child.data.tags['fingerprint'][:12]}"
    assert folder.is_dir() and not (folder / "checkpoints").exists()


@pytest.mark.drill
def test_a_variant_that_reaches_its_time_limit_takes_nobody_along(home: Home) -> None:
    """With `--time-limit`, a variant that takes longer ends as failed, in the command's table and in MLflow, with what
    to do; a quicker one is trained and compared."""
    known = {run.info.run_id for run in home.runs()}
    asked = ["--variants", "dnn", "lstm", "--set", "dnn.train.epochs=1000000", "lstm.train.epochs=3"]
    done = home.retrain(*asked, "--time-limit", "0.1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: dnn: the time limit of 0.1 minutes is reached in epoch " in done.stdout
    fresh = {run.info.run_name.split()[0]: run for run in home.runs() if run.info.run_id not in known}
    states = {name: run.info.status for name, run in fresh.items()}
    assert states == {"retrain": "FAILED", "dnn": "FAILED", "lstm": "FINISHED"}
    assert "raise --time-limit, and the next retraining goes on from there" in fresh["dnn"].data.tags["failure"]
    assert home.flow_run(fresh["retrain"])[0] == "Failed"


@pytest.mark.fault(34, drilled=10)
def test_dead_runs_are_ended_by_command(home: Home, again: int) -> None:
    """`weathervane runs clean` ends the runs of a killed retraining as killed, with the reason, and says which; after
    that there is nothing to end."""
    known = {run.info.run_id for run in home.runs()}
    process = start(home, "--variants", "dnn", "--set", f"train.epochs={200_000 + again}")
    trained(home, process, "dnn", 2)
    process.kill()
    process.wait()
    done = weathervane(home.root, "runs", "clean", PREFECT_API_URL=home.api)
    assert done.returncode == 0, done.stderr
    runs = [run for run in home.runs() if run.info.run_id not in known]
    assert [run.info.status for run in runs] == ["KILLED", "KILLED"]
    assert runs[0].data.tags["failure"].startswith(f"its process {process.pid} on ")
    assert all(run.info.run_id in done.stdout for run in runs)
    assert home.flow_run(runs[0])[0] == "Crashed"
    assert weathervane(home.root, "runs", "clean", PREFECT_API_URL=home.api).stdout == "no run is dead\n"


@pytest.mark.drill
@pytest.mark.fault(38, drilled=50)
def test_a_second_retraining_waits_and_names_the_first(home: Home, again: int) -> None:
    """Two retrainings at once in one clone: the second says for whom it waits, and then finds nothing to do."""
    asked = ["--variants", "dnn", "--set", f"train.epochs={60 + again}"]
    first = start(home, *asked)
    trained(home, first, "dnn", 1)
    second = weathervane(home.root, "retrain", *asked, PREFECT_API_URL=home.api)
    assert first.wait(60) == 0
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"waiting for other work in {home.root}: process {first.pid} on " in second.stdout
    assert "nothing to do: dnn unchanged since run" in second.stdout


def summary(root: Path) -> dict[str, Any]:
    """What a retraining leaves, without what times and names differ in."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'weather-synthetic'")
    runs = client.search_runs([experiment.experiment_id])
    (child,) = (run for run in runs if run.data.tags["kind"] == "variant")
    told = ("test/accuracy", "test/log_loss", "val/accuracy", "val/log_loss", "epoch/train_loss")
    once = [(m.key, m.step) for key in child.data.metrics for m in client.get_metric_history(child.info.run_id, key)]
    versions = client.search_model_versions("name = 'weather-synthetic'")
    return {
        "runs": Counter((run.data.tags["kind"], run.info.status) for run in runs),
        "metrics": {key: child.data.metrics[key] for key in told},
        "doubled": [pair for pair, count in Counter(once).items() if count > 1],
        "versions": [version.version for version in versions],
        "champion": client.get_model_version_by_alias("weather-synthetic", "champion").version,
        "data": json.dumps([(root / name).read_text() for name in ("data/raw.dvc", "dvc.lock")]),
    }


def lenient(root: Path) -> Path:
    """A network of four epochs may be champion, however badly it knows how sure it is."""
    path = root / "params/register.yaml"
    path.write_text(path.read_text().replace("test/ece_low: 0.1", "test/ece_low: 1.0"))
    return root


ASKED = ["retrain", "--variants", "dnn", "--set", "train.epochs=4"]


@pytest.fixture(scope="module")
def wanted(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is left of a retraining that nobody kills."""
    root = lenient(smaller(copy_project(tmp_path_factory.mktemp("whole"))))
    assert weathervane(root, *ASKED, PREFECT_API_URL=home.api).returncode == 0
    return summary(root)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_of_the_drill_is_there(stage: str) -> None:
    """The drill of every boundary dies where the code still is."""
    assert callable(found(stage)[2])


@pytest.mark.fault(28)
@pytest.mark.drill
@pytest.mark.parametrize(("stage", "when"), PLACES)
def test_killed_at_a_boundary(stage: str, when: str, home: Home, project: Path, wanted: dict[str, Any]) -> None:
    """Killed before or after a stage, the second start leaves what one start leaves: the same runs, the same figures,
    nothing twice, one version, the same record of the data."""
    root = lenient(smaller(project))
    command = [sys.executable, "-m", "benchmarks.drills.boundary", stage, when, *ASKED]
    env = environment(root, PREFECT_API_URL=home.api)
    killed = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert killed.returncode == -9, killed.stdout + killed.stderr
    again = weathervane(root, *ASKED, PREFECT_API_URL=home.api)
    assert again.returncode == 0, again.stdout + again.stderr
    assert summary(root) == wanted
