"""What commands hand to the libraries and to their children, of what the person has set."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from flows import environment
from flows import retrain_command as command
from flows.service import Child
from flows.worker import Worker
from tasks.dvc_lock import raw_md5
from tasks.locks import RETRAIN, lock

PROXIES = ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")


@pytest.mark.parametrize(
    ("held", "internal"),
    [({}, False), ({"NO_PROXY": "mlflow.corp"}, True), ({"no_proxy": "mlflow.corp"}, True), ({"NO_PROXY": "*"}, True)],
)
def test_no_proxy_is_asked_for_loopback_nor_for_what_the_person_names(
    held: dict[str, str], internal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its two names is set, by the person's case or the other, and applied twice as once."""
    from urllib.request import proxy_bypass

    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"http_proxy": "http://proxy:3128", **held}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        monkeypatch.setattr(os, "environ", os.environ.copy())
        environment._ask_no_proxy_for_loopback()
    assert proxy_bypass("127.0.0.1:4200") and proxy_bypass("localhost")
    assert bool(proxy_bypass("mlflow.corp")) is internal
    assert os.environ["no_proxy"].count("localhost") <= 1


def test_a_worker_heeds_the_persons_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What /etc/weathervane.env sets of Prefect's and MLflow's patience stays; what it leaves out is set."""
    given: list[dict[str, str]] = []

    def start(self: Child, name: str, command: list[str], log: Path, environment: dict[str, str], **_: Any) -> None:
        given.append(os.environ | environment)

    monkeypatch.setattr(Child, "__init__", start)
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "10")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    Worker.start(tmp_path, tmp_path / "log", {"PREFECT_API_URL": "http://here"})
    assert (
        given[0].items()
        >= {
            "PREFECT_WORKER_QUERY_SECONDS": "10",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",
            "PREFECT_RUNNER_POLL_FREQUENCY": "3",
            "PREFECT_API_URL": "http://here",
        }.items()
    )


def test_a_database_is_named_as_one_that_is_started_elsewhere_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sqlite:///mlflow.db` is the file of the folder where the command was given, also for a server that it starts in
    another one."""
    monkeypatch.setattr(os, "environ", os.environ | {"MLFLOW_TRACKING_URI": "sqlite:///../mlflow.db"})
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    environment.apply()
    named = os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")
    assert Path(named).is_absolute() and Path(named).resolve() == (tmp_path / "mlflow.db").resolve()


def test_a_plan_waits_for_nobody(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """`--plan` answers while a retraining is at work in the clone, for today's version of the data by name, too, and
    prepares nothing."""
    monkeypatch.chdir(project)
    version = command.ingest_and_record(project)
    asked = command.Request(device="cpu", data_version=version, plan_only=True)
    with lock(project, RETRAIN):
        assert command.run_retrain(asked) == 0
    assert "all of cnn, dnn, lstm would be trained" in capsys.readouterr().out
    assert not (project / "data/prepared").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_while_the_data_comes_in_the_params_are_as_they_were(
    number: signal.Signals, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`weathervane retrain --source X`, ended by a service or a closed terminal: params/ingest.yaml names the sources
    that it named; afterwards signals are heard as before."""
    path, before = project / command.INGEST, signal.getsignal(number)
    text = path.read_text()
    (project / "photos/rain").mkdir(parents=True)
    monkeypatch.chdir(project)
    monkeypatch.setattr(command, "own_server", lambda *_: None)
    monkeypatch.setattr(command, "ingest_and_record", lambda root: os.kill(os.getpid(), number))
    asked = command.Request(source=str(project / "photos"), device="cpu")
    with pytest.raises(KeyboardInterrupt):
        command.run_retrain(asked)
    assert path.read_text() == text
    assert signal.getsignal(number) == before


def test_what_a_cluster_is_to_decode_is_not_decoded_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `runner: ray` the command leaves the stage prepare, of today's version by name as well, to the flow."""
    path = project / "params/compute.yaml"
    path.write_text(path.read_text().replace("runner: local", "runner: ray"))
    monkeypatch.chdir(project)
    monkeypatch.setattr(command, "own_server", lambda *_: None)
    monkeypatch.setattr(command, "check_surroundings", lambda *_: None)
    monkeypatch.setattr(command, "ready", lambda *_: None)
    monkeypatch.setattr(command, "_run_flow", lambda _: 0)
    for version in (None, str(raw_md5(project))):
        assert command.run_retrain(command.Request(device="cpu", data_version=version)) == 0
    assert (project / "data/raw/ledger.csv").is_file() and not (project / "data/prepared").exists()
