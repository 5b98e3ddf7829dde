"""`weathervane up` in a project of its own, as a team has it, for the tests and drills that need one."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.flows.conftest import WEATHERVANE, environment, weathervane

Found = TypeVar("Found")
PATIENCE = 240.0  # seconds
FINAL = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


@dataclass
class Team:
    """The command at work, and the two addresses that it printed."""

    root: Path
    process: "subprocess.Popen[bytes]"
    output: Path
    prefect: str
    mlflow: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """What a laptop is told."""
        return {**self.settings, "PREFECT_API_URL": f"{self.prefect}/api", "MLFLOW_TRACKING_URI": self.mlflow}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return weathervane(self.root, *arguments, **self.variables)

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        """Prefect's REST API; like Prefect's own client, once more where SQLite was busy with something else, and where
        a question got no answer in half a minute, as after a full disk."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.prefect}/api/{path}", content, method=method)
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for pause in (1, 2, 4, 8, 16, None):
            try:
                with opener.open(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except (urllib.error.HTTPError, TimeoutError) as error:
                again = error.code == 503 if isinstance(error, urllib.error.HTTPError) else content is None
                if not again or pause is None:
                    raise
            time.sleep(pause)

    def flow_runs(self, flow: str = "retrain", **filters: Any) -> list[dict[str, Any]]:
        """Newest start first."""
        wanted = {"flows": {"name": {"any_": [flow]}}, "flow_runs": filters, "sort": "START_TIME_DESC"}
        return list(self.ask("flow_runs/filter", wanted))

    def flow_run(self, run: str) -> dict[str, Any]:
        return dict(self.ask(f"flow_runs/{run}"))

    def start(self, flow: str, parameters: dict[str, Any]) -> str:
        """A run of a deployment, as a form or a schedule makes one; its id."""
        deployment = self.ask(f"deployments/name/{flow}")
        made = self.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def ended(self, run: str) -> dict[str, Any]:
        """The state of a flow run, once it is final."""
        return until(lambda: (state := self.flow_run(run)["state"])["type"] in FINAL and state, f"the end of {run}")

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.mlflow)

    def runs(self, kind: str = "") -> list[Any]:
        """MLflow's runs of a kind, oldest first."""
        ids = [one.experiment_id for one in self.client.search_experiments(filter_string="name = 'weather-synthetic'")]
        wanted = f"tags.kind = '{kind}'" if kind else ""
        return list(self.client.search_runs(ids, wanted, order_by=["start_time ASC"])) if ids else []

    def part(self, *signs: str) -> psutil.Process:
        """The one process of the command whose arguments hold the signs."""
        (found,) = [one for one in self.family() if all(sign in " ".join(cmdline(one)) for sign in signs)]
        return found

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def worker_log(self) -> str:
        return (self.root / ".weathervane/logs/worker.log").read_text()


def cmdline(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def until(look: Callable[[], Found], what: str, patience: float = PATIENCE) -> Found:
    """What `look` finds, as soon as it is anything."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {patience:g} s for {what}"
        time.sleep(0.2)
    return found


def unscheduled(root: Path) -> Path:
    """A project whose schedules are of no use in a test: none comes up in the middle of it."""
    path = root / "prefect.yaml"
    path.write_text(re.sub(r"cron: .*", "cron: 0 0 29 2 *", path.read_text()))
    return root


@contextlib.contextmanager
def up(root: Path, *arguments: str, **settings: str) -> Iterator[Team]:
    """The command, ended by Ctrl-C afterwards with whatever it started."""
    output = root / "up.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(WEATHERVANE), "up", "--port", "0", "--mlflow-port", "0", *arguments],
            cwd=root,
            env=environment(root, PYTHONUNBUFFERED="1", **settings),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, "the servers")
        found = re.findall(r"^(?:Prefect|MLflow) +(http://127\.0\.0\.1:\d+)$", output.read_text(), re.MULTILINE)
        assert len(found) == 2, output.read_text()
        yield Team(root, process, output, *found, settings)
    finally:
        family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
        if family:
            os.kill(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        for one in family[1:]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        if process.poll() is None:
            process.kill()
            process.wait()
