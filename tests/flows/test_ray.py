"""Variants, folds and shards on a Ray cluster of two machines, of which one is lost."""

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.elsewhere import CLONE, here
from flows.runner import COMPUTE, Compute, connected
from tasks.plan import Candidate, Plan
from tests.conftest import ROOT, copy_project
from tests.flows.conftest import environment, smaller, weathervane
from tests.flows.team import Team, until, up
from weathervane import variant
from weathervane.errors import InputError
from weathervane.fingerprint import ingredients
from weathervane.params import load

ASKED: dict[str, Any] = {"variants": ["dnn", "ann"], "changes": ["train.epochs=100"]}
CROSSED = ["train.epochs=5"]
RAY = Path(sys.executable).with_name("ray")


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


@dataclass
class Machine:
    """A clone and the processes of Ray that were started in it."""

    clone: Path

    def start(self, *arguments: str) -> None:
        command = [str(RAY), "start", *arguments, "--node-ip-address", "127.0.0.1", "--num-cpus", "1"]
        command += ["--disable-usage-stats", "--object-store-memory", "100000000"]
        env = environment(self.clone, **{CLONE: str(self.clone)})
        subprocess.run(command, cwd=self.clone, env=env, check=True, capture_output=True)

    def kill(self) -> None:
        """SIGKILL, to all that runs there."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(CLONE) == str(self.clone):
                    process.kill()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Machine]]:
    """Two of them, in a cluster, with a clone each; the data is in neither, and DVC has a remote."""
    home = tmp_path_factory.mktemp("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name in ("first", "second"):
        (home / name).mkdir()
        clone = copy_project(home / name)
        edit(clone / ".dvc/config", "[core]\n", "[core]\n    remote = bytes\n")
        with (clone / ".dvc/config").open("a") as file:
            file.write(f"['remote \"bytes\"']\n    url = {home / 'bytes'}\n")
        edit(clone / COMPUTE, "runner: local", "runner: ray")
        edit(clone / COMPUTE, "127.0.0.1:6379", f"127.0.0.1:{port}")
        edit(clone / COMPUTE, "cpus: 2 ", "cpus: 1 ")
        edit(clone / "params/prepare.yaml", "shard: 4096", "shard: 25")
        smaller(clone)
    first, second = (Machine(home / name) for name in ("first", "second"))
    # The path of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:
        try:
            first.start("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", short)
            second.start("--address", f"127.0.0.1:{port}")
            yield first, second
        finally:
            second.kill()
            first.kill()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the same was trained without a cluster."""
    clone = smaller(copy_project(tmp_path_factory.mktemp("alone")))
    edit(clone / "params/prepare.yaml", "shard: 4096", "shard: 25")
    done = weathervane(clone, "retrain", "--variants", *ASKED["variants"], "--set", *ASKED["changes"])
    assert done.returncode == 0, done.stderr
    return clone


def curves(client: Any) -> dict[str, list[tuple[int, float]]]:
    """Variant and metric → every (step, value) that MLflow holds."""
    (experiment,) = client.search_experiments(filter_string="name = 'weather-synthetic'")
    found = {}
    for run in client.search_runs([experiment.experiment_id], "tags.kind = 'variant'"):
        assert run.info.status == "FINISHED"
        for key in ("epoch/train_loss", "epoch/val_loss", "epoch/val_accuracy", "test/accuracy", "test/log_loss"):
            points = client.get_metric_history(run.info.run_id, key)
            found[f"{run.data.tags['variant']} {key}"] = sorted((point.step, point.value) for point in points)
    return found


@pytest.mark.drill
@pytest.mark.fault(55)
def test_a_machine_that_is_lost_costs_no_result(machines: tuple[Machine, Machine], alone: Path) -> None:
    """One of two machines is killed while it trains a variant: the retraining finishes, with every figure of one that
    ran on a machine alone, each once; prepare, whose shards were decoded on both, left the same bytes; and the folds of
    a cross-validation come to the same figures."""
    from mlflow import MlflowClient

    first, second = machines

    def at_work() -> bool:
        records = (second.clone / ".weathervane/training").glob("*/metrics.jsonl")
        return any(path.read_bytes().count(b"\n") > 5 for path in records)

    with up(first.clone, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="3") as team:
        run = team.start("retrain/nightly", ASKED)
        until(lambda: at_work() or team.flow_run(run)["state"]["type"] == "FAILED", "a training on the second machine")
        second.kill()
        state = team.ended(run)
        assert state["name"] in ("Promoted", "Not promoted"), (state, team.worker_log()[-3000:])
        assert names(team, run) >= {"shard", "variant"}
        assert curves(team.client) == curves(MlflowClient(f"sqlite:///{alone}/mlflow.db"))
        run = team.start("crossval/by-hand", {"variants": ["dnn"], "folds": 2, "changes": CROSSED})
        state = team.ended(run)
        assert state["name"] == "Compared", (state, team.worker_log()[-3000:])
        assert names(team, run) == {"fold"}
        done = weathervane(alone, "crossval", "--variants", "dnn", "--folds", "2", "--set", *CROSSED)
        assert done.returncode == 0, done
        assert pooled(team.client) == pooled(MlflowClient(f"sqlite:///{alone}/mlflow.db"))
    sums = [(clone / "data/prepared/SHA256SUMS").read_text() for clone in (first.clone, alone)]
    assert sums[0] == sums[1]
    assert list((second.clone / ".weathervane/versions").iterdir())  # its data came from the remote


def pooled(client: Any) -> dict[str, float]:
    """The figures of the one variant that was cross-validated."""
    (experiment,) = client.search_experiments(filter_string="name = 'weather-synthetic'")
    (run,) = client.search_runs([experiment.experiment_id], "tags.kind = 'crossval variant'")
    return {key: value for key, value in run.data.metrics.items() if key.startswith("pooled/")}


def names(team: Team, run: str) -> set[str]:
    """Of the tasks that a run of the flow gave to other machines."""
    wanted = {"flow_runs": {"id": {"any_": [run]}}}
    keys = {task["task_key"] for task in team.ask("task_runs/filter", wanted)}
    return {name for name in ("shard", "variant", "fold") if any(f"{name}_elsewhere" in key for key in keys)}


def test_a_cluster_that_is_not_there_is_told(project: Path) -> None:
    """An address at which no Ray answers is named, with the parameter."""
    edit(project / COMPUTE, "127.0.0.1:6379", "127.0.0.1:1")
    told = r"compute.yaml: ray_address: 127.0.0.1:1: no cluster of Ray answers there"
    with pytest.raises(InputError, match=told), connected(load(Compute, project / COMPUTE)):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("command", ["retrain", "crossval"])
def test_servers_that_only_this_machine_reaches_are_refused(project: Path, command: str) -> None:
    """Other machines cannot log to a file: that is said before anything runs."""
    edit(project / COMPUTE, "runner: local", "runner: ray")
    done = weathervane(project, command, "--variants", "dnn")
    assert done.returncode == 2, done
    assert "params/compute.yaml: runner: ray needs PREFECT_API_URL and MLFLOW_TRACKING_URI" in done.stderr
    assert not (project / "data/raw").exists()


def test_a_clone_with_other_code_is_refused() -> None:
    """A machine whose code or libraries are not those that the plan was made with trains nothing."""
    chosen = variant.load(ROOT, "dnn")
    needed = ingredients(chosen, "0" * 32, 0) | {"code": "{}", "torch": "0.1"}
    candidate = Candidate("dnn", chosen, "f", needed, "why")
    plan = Plan("weather", "0" * 32 + ".dir", ROOT, 0, [candidate], older=False)
    with pytest.raises(InputError, match=r"other code and torch than .*'git pull'"):
        here(ROOT, plan, candidate)
