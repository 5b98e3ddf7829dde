"""`weathervane up --auth` with both stores in PostgreSQL: what a team needs that puts its servers on a network."""

import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest

from flows.service import free
from flows.up import _check_password
from tasks.tracking_read import check_server
from tests.conftest import Here, copy_project
from tests.flows.conftest import smaller, weathervane
from tests.flows.team import Team, cmdline, unscheduled, up
from weathervane.errors import InputError

pytestmark = pytest.mark.slow
PASSWORD = "correct-horse-battery"
SETTINGS = {
    "PREFECT_SERVER_API_AUTH_STRING": f"team:{PASSWORD}",
    "MLFLOW_TRACKING_USERNAME": "boss",
    "MLFLOW_TRACKING_PASSWORD": PASSWORD,
}
PROXY = {
    "WEATHERVANE_ALLOWED_HOSTS": "Proxy.Example",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "proxy.example,127.0.0.1:*",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://proxy.example",
}


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server on loopback with a database for each of the two."""

    port: int

    def url(self, driver: str, name: str) -> str:
        return f"{driver}://weathervane:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def ask(self, name: str, query: str) -> str:
        command = ["psql", self.url("postgresql", name), "--no-align", "--tuples-only", "--command", query]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *map(Path, os.get_exec_path())]
    tools = next((place for place in places if (place / "initdb").exists()), None)
    if tools is None or not shutil.which("psql"):
        pytest.skip("no PostgreSQL here: install Debian's postgresql to have both servers tested on it")
    folder = Path(
        tempfile.mkdtemp(prefix="weathervane-pg-")
    )  # not below pytest's, which the user postgres cannot enter
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    port, data = free(0), folder / "data"
    initdb = [
        str(tools / "initdb"),
        "-D",
        str(data),
        "-U",
        "weathervane",
        "--pwfile",
        str(secret),
        "--auth=scram-sha-256",
    ]
    subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd="/")
    server = [str(tools / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    with (tmp_path_factory.mktemp("log") / "postgres.log").open("wb") as log:
        process = subprocess.Popen([*as_user, *server], stdout=log, stderr=log, cwd="/")
    try:
        made = Database(port)
        ready = [str(tools / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
        while subprocess.run(ready, capture_output=True).returncode:
            assert process.poll() is None
        for name in ("prefect", "mlflow"):
            made.ask("postgres", f"CREATE DATABASE {name}")
        yield made
    finally:
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(process.pid).children(recursive=True):
                one.terminate()
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def team(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    root = unscheduled(smaller(copy_project(tmp_path_factory.mktemp("guarded"))))
    stores = {
        "PREFECT_API_DATABASE_CONNECTION_URL": database.url("postgresql+asyncpg", "prefect"),
        "MLFLOW_BACKEND_STORE_URI": database.url("postgresql", "mlflow"),
    }
    with up(root, "--auth", **SETTINGS, **stores, **PROXY) as team:
        team.settings = {name: value for name, value in SETTINGS.items() if name.startswith("MLFLOW")}
        team.settings["PREFECT_API_AUTH_STRING"] = SETTINGS["PREFECT_SERVER_API_AUTH_STRING"]
        yield team


def status(url: str, **headers: str) -> int:
    request = Request(url, b'{"max_results": 1}', {"Content-Type": "application/json", **headers})
    try:
        return int(build_opener(ProxyHandler({})).open(request, timeout=30).status)
    except HTTPError as error:
        return error.code


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.fault(54)
def test_both_ask_for_a_password_and_refuse_foreign_pages(team: Team) -> None:
    """401 without or with a wrong password; 403 for a foreign Host or Origin even with the right one; else 200, also
    through a proxy whose name both servers were told as docs/operations.md says."""
    for url, right in (
        (f"{team.prefect}/api/flow_runs/filter", f"team:{PASSWORD}"),
        (f"{team.mlflow}/api/2.0/mlflow/experiments/search", f"boss:{PASSWORD}"),
    ):
        assert status(url) == 401
        assert status(url, **basic("team:wrong")) == status(url, **basic("boss:wrong")) == 401
        assert status(url, **basic(right)) == 200
        assert status(url, **basic(right), Host="evil.example") == 403
        assert status(url, **basic(right), Origin="https://evil.example") == 403
        assert status(url, **basic(right), Origin="https://proxy.example", Host="proxy.example") == 200


def test_a_retraining_is_on_record_in_postgresql(team: Team, database: Database) -> None:
    """From a laptop with passwords in variables; both servers' records are rows of the two databases, no file of SQLite
    is there, and no password stands in a process's arguments, in a log or in either database."""
    done = team.run("trigger", "retrain", "--variants", "dnn", "--set", "train.epochs=1", "--wait")
    assert done.returncode == 0 and "Promoted: dnn: the first champion" in done.stdout, done
    assert database.ask("mlflow", "SELECT count(*) FROM runs WHERE status = 'FINISHED'") == "2"
    assert database.ask("prefect", "SELECT name FROM flow_run_state WHERE name = 'Promoted'") == "Promoted"
    assert not {path.name for path in (team.root / "servers").glob("*.db")} - {"mlflow-auth.db"}
    assert not [one for one in team.family() if PASSWORD in " ".join(cmdline(one))]
    logs = [*(team.root / ".weathervane/logs").iterdir(), team.output]
    assert not [path for path in logs if PASSWORD in path.read_text()]
    for name in ("prefect", "mlflow"):
        dump = ["pg_dump", database.url("postgresql", name), "--data-only"]
        assert PASSWORD not in subprocess.run(dump, check=True, capture_output=True, text=True).stdout


@pytest.mark.fault(54)
def test_who_has_no_password_is_told_so(team: Team, here: Here) -> None:
    """A command that meets a server that asks for one names the variable, without a traceback and before any work."""
    for secret, word in (("", "is not set"), ("team:wrong-CANARY", "is wrong")):
        for command in (["trigger", "retrain"], ["deploy"], ["retrain"]):
            settings = team.variables | {"PREFECT_API_AUTH_STRING": secret}
            refused = here(team.root, *command, **settings)
            assert refused.returncode == 2, refused
            assert f"PREFECT_API_AUTH_STRING (user:password) {word}" in refused.stderr
            assert "Traceback" not in refused.stderr and "CANARY" not in refused.stdout + refused.stderr


def test_another_password_of_mlflows_administrator_is_noticed(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow heeds that of its first start only: `up --auth` with another one says so and how to change it, instead of
    serving on with the old one. A user without any permission is let in."""
    from mlflow.server import get_app_client

    for name, value in team.settings.items():
        monkeypatch.setenv(name, value)
    _check_password(team.mlflow)
    get_app_client("basic-auth", team.mlflow).create_user("anna", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    check_server(team.mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse-new")
    with pytest.raises(InputError, match=r"does not let 'anna' in .* answers 401: .*update_user_password"):
        _check_password(team.mlflow)


def test_what_auth_needs_is_named(tmp_path: Path) -> None:
    """Before anything is started: the variables, and a password that MLflow would refuse."""
    root = copy_project(tmp_path)
    missing = weathervane(root, "up", "--auth", "--port", "0", "--mlflow-port", "0")
    assert missing.returncode == 2 and "--auth: set PREFECT_SERVER_API_AUTH_STRING and" in missing.stderr
    short = {**SETTINGS, "MLFLOW_TRACKING_PASSWORD": "short"}
    refused = weathervane(root, "up", "--auth", "--port", "0", "--mlflow-port", "0", **short)
    assert refused.returncode == 2 and "12 characters" in refused.stderr
