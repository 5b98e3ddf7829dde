"""fault 52: a secret reaches no log, no database, no file of ours, and nobody's terminal, whatever fails."""

import base64
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from flows.server import LocalServer
from tests.conftest import copy_project, dvc
from tests.flows.conftest import environment, smaller, weathervane

pytestmark = pytest.mark.slow
CANARY = f"k{uuid4().hex[:16]}"  # of this process alone: the clone holds this file, too
SEEN = [CANARY.encode(), base64.b64encode(f"anna:{CANARY}".encode())]
THEIRS = {"params/ingest.yaml", ".git/config", ".dvc/config", "profiles.toml"}  # where the person wrote it
USER = f"anna:{CANARY}@127.0.0.1"
AWAY = f"http://{USER}:9"  # nothing listens there


@dataclass(frozen=True)
class Fault:
    """Something that fails while a secret is at hand."""

    arguments: list[str]
    told: str  # proves that the fault was met
    variables: dict[str, str] = field(default_factory=dict)
    source: str = ""  # of params/ingest.yaml
    profile: str = ""  # Prefect's
    before: tuple[str, ...] = ()  # what the person had DVC or git do, a command each
    program: str = ""  # instead of the command


def answering(status: int, body: bytes, dying: bool = False) -> ThreadingHTTPServer:
    """A server on loopback that answers everything so; one that is dying hangs up when it is to make an experiment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            if dying and self.path.endswith("experiments/create"):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.do_GET()

        do_PUT = do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, str]]:
    """Ports of servers that answer 401, 404, 500, and 200 with what nobody asked for, and of a dying one."""
    servers = {f"p{status}": answering(status, b"no") for status in (401, 404, 500, 200)}
    servers["dying"] = answering(404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', dying=True)
    yield {name: str(server.server_port) for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which nothing was ever done. Read only."""
    return smaller(copy_project(tmp_path_factory.mktemp("clone")))


def leaks(*folders: Path) -> list[str]:
    """Every file below the folders that holds the secret: databases row by row, git's history unpacked."""
    found = []
    for folder in folders:
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            if content.startswith(b"SQLite format 3"):
                with closing(sqlite3.connect(path)) as database:
                    content += "\n".join(database.iterdump()).encode()
            if path.relative_to(folder).as_posix() not in THEIRS and holds(content):
                found.append(str(path))
        if (folder / ".git").is_dir():
            history = subprocess.run(["git", "log", "--all", "-p"], cwd=folder, capture_output=True, check=True)
            found += ["git log"] if holds(history.stdout) else []
    return found


def holds(content: bytes) -> bool:
    return any(secret in content for secret in SEEN)


def meet(fault: Fault, root: Path, home: Path, ports: dict[str, str], **variables: str) -> str:
    """Run the command in a project with the fault; what it said, once it is known to have said no secret."""
    if fault.source:
        path = root / "params/ingest.yaml"
        text = path.read_text(encoding="utf-8")
        head, tail = text.split("sources:")[0], text[text.index("test_fraction") :]
        head = head.replace("dataset: weather-synthetic", "dataset: mine")
        path.write_text(f"{head}sources:\n{fault.source.format(**ports)}\n{tail}", encoding="utf-8")
    if fault.profile:
        (home / "profiles.toml").write_text(fault.profile, encoding="utf-8")
    for command in fault.before:
        words = command.format(**ports).split()
        if words[0] == "dvc":
            dvc(root, *words[1:])
        else:
            subprocess.run(words, cwd=root, check=True, capture_output=True)
    asked = {name: value.format(**ports) for name, value in (variables | fault.variables).items()}
    asked = {"PREFECT_HOME": str(home), "GIT_TERMINAL_PROMPT": "0", **asked}
    if fault.program:
        command, env = [sys.executable, "-c", fault.program, *fault.arguments], environment(root, **asked)
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    else:
        done = weathervane(root, *fault.arguments, **asked)
    said = done.stdout + done.stderr
    assert not holds(said.encode()), said.replace(CANARY, "<<<THE SECRET>>>")
    assert leaks(root, home) == []
    assert fault.told in said and (fault.program or "Traceback" not in said), said
    return said


RETRAIN = ["retrain", "--variants", "dnn"]


def tracking(address: str, told: str, *arguments: str, **more: str) -> Fault:
    return Fault(list(arguments) or RETRAIN, told, {"MLFLOW_TRACKING_URI": address, **more})


def source(url: str, told: str) -> Fault:
    return Fault(RETRAIN, told, source=f"- {{{{kind: url, url: '{url}', sha256: '{'0' * 64}'}}}}")


QUICK = {
    "MLflow is down": tracking(AWAY, "no MLflow server answers there"),
    "MLflow answers 500": tracking(f"http://{USER}:{{p500}}", "the server answers 500"),
    "MLflow answers 401": tracking(f"http://{USER}:{{p401}}", "the server answers 401"),
    "MLflow is something else": tracking(f"http://{USER}:{{p200}}", "no MLflow server answers there"),
    "a user alone": tracking(f"http://{CANARY}@127.0.0.1:9", "no MLflow server answers there"),
    "a password that no URL should hold": tracking(f"http://anna:x/y@{CANARY}@127.0.0.1:9", "MLFLOW_TRACKING_URI"),
    "a port that is none": tracking(f"http://{USER}:five", "MLFLOW_TRACKING_URI"),
    "an address that is none": tracking(f"http://anna:{CANARY}@[127.0.0.1:9", "MLFLOW_TRACKING_URI"),
    "a scheme that nobody knows": tracking(f"redis://{USER}:{{p500}}/0", "not usable"),
    "MLflow's PostgreSQL is down": tracking(f"postgresql://{USER}:9/mlflow", "no database answers there"),
    "MLflow's MySQL has no driver": tracking(f"mysql+pymysql://{USER}:{{p500}}/mlflow", "not usable"),
    "a password of its own": tracking(
        "http://127.0.0.1:{p401}", "answers 401", MLFLOW_TRACKING_USERNAME="anna", MLFLOW_TRACKING_PASSWORD=CANARY
    ),
    "a token": tracking("http://127.0.0.1:{p500}", "the server answers 500", MLFLOW_TRACKING_TOKEN=CANARY),
    "history": tracking(AWAY, "no MLflow server answers", "history"),
    "rollback": tracking(f"http://{USER}:{{p401}}", "the server answers 401", "rollback"),
    "clean": tracking(AWAY, "no MLflow server answers", "clean"),
    "backup": tracking(AWAY, "is backed up by whoever runs the server", "backup", "store.tar"),
    "lineage": tracking(AWAY, "no MLflow server answers", "lineage", "models:/weather@champion"),
    "data versions": tracking(AWAY, "no MLflow server answers", "data", "versions"),
    "runs clean": tracking(AWAY, "no MLflow server answers", "runs", "clean"),
    "Prefect is down": Fault(RETRAIN, "no Prefect server answers there", {"PREFECT_API_URL": f"{AWAY}/api"}),
    "Prefect's address in a profile": Fault(
        RETRAIN,
        "no Prefect server answers there",
        profile=f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{AWAY}/api"\n',
    ),
    "Prefect's database is down": Fault(
        RETRAIN,
        "The Prefect server ",
        {"PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{USER}:9/prefect"},
    ),
    "a source that is not found": source(f"http://{USER}:{{p404}}/a.zip?token={CANARY}", "404"),
    "a source with another sha256": source(f"http://{USER}:{{p200}}/a.zip?token={CANARY}", "its sha256 is"),
    "a source that is down": source(f"http://127.0.0.1:9/a.zip?X-Sig={CANARY}", "trying again"),
    "a source without https": source(f"http://anna:{CANARY}@example.org/a.zip", "only https is fetched"),
    "a source without a port": source(f"https://anna:{CANARY}@localhost/a.zip", "trying again"),
    "a source that is no archive": source(f"https://anna:{CANARY}@localhost/a.jpg?{CANARY}", "must end in the name"),
    "a source of no scheme": source(f"ftp://anna:{CANARY}@localhost/a.zip", "'sources.0.url.url' is "),
    "a source in the command": Fault([*RETRAIN, "--source", f"https://{USER}/a.zip?{CANARY}"], "no such folder"),
    "a source to look at": Fault(["data", "check", f"https://{USER}/a.zip?{CANARY}"], "no such folder"),
    "DVC's remote is down": Fault(
        ["data", "gc"], "nothing to remove", before=(f"dvc remote add -d far http://{USER}:9/data",)
    ),
    "DVC's remote refuses": Fault(
        ["data", "gc"], "nothing to remove", before=(f"dvc remote add -d far http://{USER}:{{p401}}/data",)
    ),
    "Amazon's keys": Fault(
        ["data", "gc"],
        "DVC's remote: ",
        {"AWS_ACCESS_KEY_ID": "anna", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_SESSION_TOKEN": CANARY},
        before=("dvc remote add -d far s3://bucket/data", "dvc remote modify far endpointurl http://127.0.0.1:{p401}"),
    ),
}


SLOW = "a source that is down", "a source without a port", "MLflow dies in mid-run"  # they wait, again and again
COMMANDS = [
    pytest.param(fault, id=name, marks=[pytest.mark.drill] if number % 2 or name in SLOW else [])
    for number, (name, fault) in enumerate(QUICK.items())
]


@pytest.mark.fault(52)
@pytest.mark.parametrize("fault", COMMANDS)
def test_no_secret_leaves_a_command(fault: Fault, clone: Path, tmp_path: Path, ports: dict[str, str]) -> None:
    """A command that fails on a server, a source or a remote says so, with neither password, token nor key, on the
    terminal or in any file below the project or of Prefect's."""
    root, home = shutil.copytree(clone, tmp_path / "project"), tmp_path / "home"
    home.mkdir()
    meet(fault, root, home, ports)


SECRETS = {"AWS_SECRET_ACCESS_KEY": CANARY, "GITHUB_TOKEN": CANARY, "MLFLOW_TRACKING_PASSWORD": CANARY}
SKIES = "- {{kind: synthetic, per_class: 15, seed: 0}}"
PUSH = (
    "sed -i s/never/push/ params/ingest.yaml",
    "git config push.default current",
    f"git remote add origin https://anna:{CANARY}@127.0.0.1:9/project.git",
)
FAIL = f"""
import tasks.runs
from flows.cli import main
def code_tags(root):
    raise OSError("403 for https://bucket.s3.example.org/model?X-Amz-Signature={CANARY}")
tasks.runs.code_tags = code_tags
main()
"""
FLOWS = {
    "DVC cannot push": Fault(
        RETRAIN, "DVC's remote: ", source=SKIES, before=(*PUSH, f"dvc remote add -d far http://{USER}:{{p500}}/data")
    ),
    "git cannot push": Fault(
        RETRAIN, "'git push' failed: ", source=SKIES, before=(*PUSH, "dvc remote add -d far ../remote")
    ),
    "MLflow dies in mid-run": Fault(
        RETRAIN,
        "API request to ",
        {"MLFLOW_TRACKING_URI": f"http://{USER}:{{dying}}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
        source=SKIES,
        program="from flows.cli import main; main()",
    ),
    "an error that nobody foresaw": Fault(RETRAIN, "OSError: 403 for ", source=SKIES, program=FAIL),
    "a variant that fails": Fault(
        [*RETRAIN, "--set", "train.optimizer=sgd", "train.lr=1e38"],
        "lower train.lr",
        SECRETS,
        source=SKIES,
        before=(*PUSH[2:], f"dvc remote add -d far http://{USER}:9/data"),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[tuple[LocalServer, Path]]:
    """A Prefect server, and the folder of its database."""
    home = tmp_path_factory.mktemp("home")
    shutil.copyfile(prefect_database, home / "prefect.db")
    before = os.environ["PREFECT_HOME"]
    os.environ["PREFECT_HOME"] = str(home)
    try:
        with LocalServer.start(home / "server.log") as server:
            server.wait()
            yield server, home
    finally:
        os.environ["PREFECT_HOME"] = before


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=name, marks=[pytest.mark.drill] if name in SLOW else []) for name, fault in FLOWS.items()],
)
def test_no_secret_leaves_a_flow(
    fault: Fault, clone: Path, tmp_path: Path, ports: dict[str, str], server: tuple[LocalServer, Path]
) -> None:
    """A flow that fails on the way says so, with no secret in its log, in Prefect's or MLflow's database, in a tag, an
    artifact or a job, nor in a backup of them."""
    root, (prefect, home) = shutil.copytree(clone, tmp_path / "project"), server
    meet(fault, root, home, ports, PREFECT_API_URL=prefect.url)
    if (root / "mlflow.db").exists():
        done = weathervane(root, "backup", "store.tar", **SECRETS)
        assert done.returncode == 0 and leaks(root, home) == []
