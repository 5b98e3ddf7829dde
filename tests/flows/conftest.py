"""A clone of the project in which a retraining was made, shared by the tests of the flow."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.server import OWN, LocalServer
from tests.conftest import copy_project

WEATHERVANE = Path(sys.executable).with_name("weathervane")
FAST = ["--set", "train.epochs=2", "cnn.network.width=4"]


@dataclass(frozen=True)
class Home:
    """A clone of the project, a Prefect server that stays up, and the outcome of its first command."""

    root: Path
    api: str
    first: "subprocess.CompletedProcess[str]"

    def retrain(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return weathervane(self.root, "retrain", *arguments, PREFECT_API_URL=self.api, **variables)

    @property
    def mlflow(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.root}/mlflow.db")

    def runs(self, kind: str = "") -> list[Any]:
        """Runs of a kind, oldest first."""
        (experiment,) = self.mlflow.search_experiments(filter_string="name = 'weather-synthetic'")
        wanted = f"tags.kind = '{kind}'" if kind else ""
        return list(self.mlflow.search_runs([experiment.experiment_id], wanted, order_by=["start_time ASC"]))

    def ask(self, path: str, body: object) -> Any:
        """Prefect's REST API."""
        import urllib.request

        request = urllib.request.Request(f"{self.api}/{path}", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.load(answer)

    def flow_run(self, parent: Any) -> tuple[str, list[str]]:
        """State of the flow run that a retraining belongs to, and the names of its tasks in order."""
        wanted = {"id": {"any_": [parent.data.tags["prefect_flow_run_id"]]}}
        (run,) = self.ask("flow_runs/filter", {"flow_runs": wanted})
        found = self.ask("task_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC"})
        return run["state_name"], [task["name"] for task in found]


def environment(root: Path, **variables: str) -> dict[str, str]:
    """A person's shell, in which the clone's own code is what runs."""
    return {**os.environ, "PYTHONPATH": str(root), **variables}


def weathervane(root: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [str(WEATHERVANE), *arguments]
    env = environment(root, **{OWN: "1", **variables})  # nobody else works for the session's server
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300)


def smaller(root: Path) -> Path:
    """15 images a class are enough here."""
    path = root / "params/ingest.yaml"
    path.write_text(path.read_text().replace("per_class: 100", "per_class: 15"))
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@e", "commit", "-qam", "small"], cwd=root, check=True
    )
    return root


@pytest.fixture(scope="session")
def known_to_prefect(prefect_database: Path) -> None:
    """The worker's own Prefect database, as after the first command of a person."""
    shutil.copyfile(prefect_database, Path(os.environ["PREFECT_HOME"], "prefect.db"))


@contextmanager
def home_after(tmp_path_factory: pytest.TempPathFactory, *arguments: str) -> Iterator[Home]:
    """A fresh clone in which this command was the first."""
    with LocalServer.start(tmp_path_factory.mktemp("server") / "log") as server:
        root = smaller(copy_project(tmp_path_factory.mktemp("clone")))
        import mlflow  # noqa: F401, for the tests below: it takes as long as the server

        server.wait()
        yield Home(root, server.url, weathervane(root, *arguments, PREFECT_API_URL=server.url))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, known_to_prefect: None) -> Iterator[Home]:
    with home_after(tmp_path_factory, "retrain", *FAST) as made:
        yield made
