"""What is read without MLflow's client, against what MLflow's client wrote."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tasks import tracking
from tasks.tracking_read import Run, _by_client, check_server, opened, page, running, runs, uri
from weathervane.errors import InputError, masked


@dataclass
class Written:
    """A local store in which runs were written by MLflow's own client, and what a reader should see of them."""

    root: Path
    address: str
    variants: list[Run]
    deleted: str


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Written:
    root = tmp_path_factory.mktemp("written")
    shutil.copy(fresh_database, root)
    client = tracking.client(root)
    weather, other = tracking.experiment(root, "weather"), tracking.experiment(root, "other's")
    made = []
    for number, (name, status) in enumerate([("cnn", "FINISHED"), ("lstm", "FAILED"), ("dnn", "RUNNING")]):
        tags = {"kind": "variant", "variant": name, "note": 'it\'s 100 % `ü`\n"two" lines', "empty": ""}
        run = client.create_run(weather, start_time=1000 + number, tags=tags, run_name=f"{name} run").info.run_id
        lines = [{"epoch": epoch, "time": 1.0, "metrics": {"loss": 1 / (1 + epoch)}} for epoch in range(3)]
        tracking.log_record(root, run, lines, set())
        tracking.log(root, run, metrics={"seconds": 1e-9})
        tracking.log(root, run, metrics={"nothing": float("nan")})  # which SQLite holds as 0
        if status != "RUNNING":
            tracking.end_run(root, run, status)
        made.append(run)
    deleted = client.create_run(weather, tags={"kind": "variant", "variant": "cnn"}).info.run_id
    client.delete_run(deleted)
    client.create_run(weather, tags={"kind": "retraining"})
    client.create_run(other, tags={"kind": "variant", "variant": "cnn"}, run_name="elsewhere")
    seen = [client.get_run(run) for run in reversed(made)]
    variants = [
        Run(
            r.info.run_id,
            r.info.run_name,
            r.info.status,
            r.info.start_time,
            r.data.tags,
            {name: number for name, number in r.data.metrics.items() if name != "nothing"},
        )
        for r in seen
    ]
    assert [run.metrics["epoch/loss"] for run in variants] == [pytest.approx(1 / 3)] * 3
    return Written(root, uri(root), variants, deleted)


@pytest.fixture(scope="module")
def booting(written: Written) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A tracking server whose artifact root is a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", written.address, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-serve-artifacts"]
    command += ["--default-artifact-root", str(written.root / "of the server")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(written.root / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    yield process, f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(booting: tuple["subprocess.Popen[bytes]", str], written: Written) -> str:
    """Address of a real `mlflow server` on that store."""
    process, address = booting
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return address
        except OSError:
            time.sleep(0.2)
    raise AssertionError((written.root / "server.log").read_text())


def test_a_local_database_reads_as_the_client_wrote_it(
    written: Written, booting: tuple["subprocess.Popen[bytes]", str]
) -> None:
    """What is current is answered from mlflow.db in milliseconds, and is what MLflow itself would answer.

    The database's schema is MLflow's own affair: this is where a new MLflow that changes it is noticed.
    """
    assert runs(written.address, "weather", "kind", ["variant"]) == written.variants
    assert runs(written.address, "weather", "variant", ["cnn", "lstm"]) == written.variants[1:]
    (elsewhere,) = runs(written.address, "other's", "kind", ["variant"])
    assert elsewhere.name == "elsewhere"


def test_running_runs_of_every_experiment_are_found(written: Written) -> None:
    """Whoever ends dead runs sees all that MLflow takes for running, whatever the dataset."""
    found = running(written.address)
    assert len(found) == 3 and all(run.status == "RUNNING" for run in found)
    assert "elsewhere" in {run.name for run in found}


def test_deleted_runs_are_not_seen(written: Written) -> None:
    """A run that somebody deleted in MLflow's pages is trained again."""
    seen = {run.run_id for run in runs(written.address, "weather", "variant", ["cnn"])}
    assert written.deleted not in seen


def test_where_nothing_was_written_nothing_is_found(written: Written, tmp_path: Path) -> None:
    """The first question of a fresh clone makes no database and is answered: there are no runs."""
    assert runs(f"sqlite:///{tmp_path}/mlflow.db", "weather", "kind", ["variant"]) == []
    assert runs(written.address, "never heard of", "kind", ["variant"]) == []
    assert runs(written.address, "weather", "kind", []) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_mlflow_would_misread_is_refused(tmp_path: Path) -> None:
    """MLflow unquotes the place of its artifacts: in a folder with %20 in its name they would land in another one. What
    follows a question mark it takes for options."""
    check_server(f"sqlite:///{tmp_path}/100 %/mlflow.db")
    for name in ("feature%2Fx", "why?"):
        with pytest.raises(InputError, match="give the folder another name"):
            check_server(f"sqlite:///{tmp_path}/{name}/mlflow.db")


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    """A file that is no database of MLflow's, or that cannot be opened, is named."""
    for content in (b"not a database at all, but long enough to be looked at", b""):
        (tmp_path / "mlflow.db").write_bytes(content)
        with pytest.raises(InputError, match=r"mlflow\.db: not readable as MLflow's database"):
            runs(f"sqlite:///{tmp_path}/mlflow.db", "weather", "kind", ["variant"])
    with pytest.raises(InputError, match="not readable as MLflow's database"), opened(tmp_path):
        pass


def test_a_database_whose_writer_was_killed_is_read(written: Written, tmp_path: Path) -> None:
    """A journal that a killed run left beside mlflow.db is rolled back, and what was there before is read."""
    database = tmp_path / "mlflow.db"
    database.write_bytes((written.root / "mlflow.db").read_bytes())
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(database, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the end of the transaction
        connection.execute("BEGIN")
        connection.execute("UPDATE tags SET value = 'half'")
        connection.execute("UPDATE runs SET name = 'half'")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "mlflow.db-journal").stat().st_size
    assert runs(f"sqlite:///{database}", "weather", "kind", ["variant"]) == written.variants


@pytest.mark.slow
@pytest.mark.parametrize("most", [1000, 1])
def test_a_server_reads_as_the_client_wrote_it(
    written: Written, server: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the team's server, the same questions have the same answers, on however many pages they come."""
    monkeypatch.setattr("tasks.tracking_read.MOST", most)
    monkeypatch.setattr("tasks.tracking_read.PAGE", most)
    check_server(server)
    assert runs(server, "weather", "kind", ["variant"]) == written.variants
    assert _by_client(written.address, "weather", "variant", ["dnn", "lstm", "cnn"]) == written.variants
    assert runs(server, "weather", "variant", ["cnn", "lstm"]) == written.variants[1:]
    assert runs(server, "other's", "kind", ["variant"])[0].name == "elsewhere"
    assert runs(server, "never heard of", "kind", ["variant"]) == []
    assert running(server) == running(written.address)
    assert runs(server, "weather", "kind", []) == []
    assert written.deleted not in {run.run_id for run in runs(server, "weather", "variant", ["cnn"])}


@pytest.mark.slow
def test_a_server_that_would_scatter_artifacts_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is written to a folder that only looks shared; a server that keeps artifacts itself is fine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with pytest.raises(InputError, match=r"its artifact root is the local folder .*of the server.*--serve-artifacts"):
        tracking.experiment(tmp_path, "scattered")
    made = tracking.client(tmp_path).create_experiment("kept", "mlflow-artifacts:/kept")
    assert tracking.experiment(tmp_path, "kept") == made


@pytest.mark.fault(19)
def test_a_server_that_is_down_is_told_without_the_password() -> None:
    """Somebody who forgot to start the server reads so at once; the log shows no secret."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://anna:p@ss:w0rd@127.0.0.1:{port}/mlflow"
    began = time.monotonic()
    with pytest.raises(InputError, match="no MLflow server answers there") as told:
        check_server(address)
    assert time.monotonic() - began < 10
    assert "w0rd" not in str(told.value) and "ss" not in str(told.value).split("127.0.0.1")[0]
    assert f"127.0.0.1:{port}/mlflow" in str(told.value)


@pytest.mark.fault(19)
@pytest.mark.slow
def test_a_server_that_hangs_is_told_within_ten_seconds() -> None:
    """A server that takes the call and never answers does not hold up a retraining for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(InputError, match="no MLflow server answers there"):
            runs(f"http://127.0.0.1:{silent.getsockname()[1]}", "weather", "kind", ["variant"])
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "address",
    ["http://anna:secret@host:5000/x", "https://secret@host", "http://a:b@secret@host", "postgresql://a:secret@host/b"],
)
def test_addresses_are_shown_without_their_secrets(address: str) -> None:
    """Whatever stands before the host's name may be a secret."""
    assert "secret" not in masked(address)
    assert masked(address).split("@")[-1] == address.split("@")[-1]


def test_an_address_without_secrets_is_shown_as_it_is() -> None:
    """Nobody has to guess which server is meant."""
    for address in ("http://host:5000/a/b@c", "sqlite:////home/x@y/mlflow.db"):
        assert masked(address) == address


@pytest.fixture
def asked() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server's host and port, and the headers of each request that it got."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_another_server_is_not_taken_for_an_empty_mlflow() -> None:
    """MLFLOW_TRACKING_URI that leads somewhere else, where MLflow's paths are not found, is told before anything
    begins."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(InputError, match="the server answers 404: is it MLflow's"):
            check_server(f"http://127.0.0.1:{server.server_port}")


def test_a_server_that_refuses_gets_what_mlflow_itself_would_send(
    asked: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """User, password and token are given in the ways that MLflow documents, its file of credentials among them; a
    refusal is told."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    host, seen = asked
    settings: list[tuple[str, dict[str, str]]] = [
        (f"http://anna:p%40ss@{host}", {}),
        (f"http://{host}", {"MLFLOW_TRACKING_USERNAME": "anna", "MLFLOW_TRACKING_PASSWORD": "pass"}),
        (f"http://{host}", {"MLFLOW_TRACKING_TOKEN": "token"}),
        (f"http://anna:pass@{host}", {"MLFLOW_TRACKING_TOKEN": "stale"}),
        (f"http://{host}", {}),
    ]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / ".mlflow").mkdir()
    secret = "[mlflow]\nmlflow_tracking_username = anna\nmlflow_tracking_password = p%%ss\n"
    (tmp_path / ".mlflow/credentials").write_text(secret)
    settings.append((f"http://{host}", {"HOME": str(tmp_path)}))
    for address, variables in settings:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(InputError, match="the server answers 401"):
                check_server(address)
            with pytest.raises(MlflowException):
                MlflowClient(address).get_experiment_by_name("Default")
        ours, theirs = seen[0].get("Authorization"), seen[-1].get("Authorization")
        assert ours == theirs
        assert bool(ours) == (address != f"http://{host}" or bool(variables))
        seen.clear()


def test_a_run_is_shown_by_its_page_or_its_id(written: Written, server: str) -> None:
    """A person gets a link where there is a server, without a password and to MLflow's pages for trainings; a shorter
    one while it does not answer; else the id of the run."""
    from mlflow import MlflowClient

    run = written.variants[0].run_id
    assert page(written.address, run) == f"MLflow run {run}"
    experiment = MlflowClient(server).get_run(run).info.experiment_id
    shown = f"{server}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"
    assert page(server.replace("//", "//anna:secret@"), run) == shown
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert page(gone, "4f2a") == f"{gone}/#/runs/4f2a"
