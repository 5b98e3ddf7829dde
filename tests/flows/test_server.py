import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.prefect_settings import check
from flows.server import LocalServer
from flows.service import Child, ServerError
from flows.trigger import _deployment
from tests.conftest import ROOT
from tests.flows.conftest import environment
from tests.flows.test_notify import make_certificate
from weathervane.errors import InputError

WAITS = """
import sys, time
from pathlib import Path
from flows.server import LocalServer

server = LocalServer.start(Path(sys.argv[1]))
server.wait()
print(server.url, flush=True)
time.sleep(600)
"""

RUNS = """
import os, sys
from pathlib import Path
from flows.server import LocalServer

with LocalServer.start(Path(sys.argv[1])) as server:
    os.environ["PREFECT_API_URL"] = server.url
    from prefect import flow, task

    @task
    def double(i):
        return 2 * i

    @flow
    def doubles():
        return sum(double.map(range(20)).result())

    server.wait()
    print(doubles())
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect home that does not exist yet, instead of the user's."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / "home"))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield folder


@pytest.fixture(scope="module")
def parent(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with a server of its own, on the same database."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(home / "parent.log")], stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def server(home: Path, parent: subprocess.Popen[str]) -> Iterator[LocalServer]:
    with LocalServer.start(home / "server.log") as server:
        server.wait()
        yield server


def ask(url: str, body: object = None, **headers: str) -> tuple[object, dict[str, str]]:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.load(response), dict(response.headers)


def server_of(process: psutil.Process) -> psutil.Process:
    """The newest server that `process` started."""
    servers = [child for child in process.children() if "flows.server" in child.cmdline()]
    return max(servers, key=psutil.Process.create_time)


def ended(process: psutil.Process, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        # A process whose new parent has not collected its status is no longer running either.
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.fault(25)
def test_two_first_starts_at_once_on_a_fresh_database_both_come_up(
    server: LocalServer, parent: subprocess.Popen[str]
) -> None:
    """Two commands may be started at the same moment on a machine that has never seen Prefect."""
    other = parent.stdout.readline().strip()
    assert other != server.url
    assert ask(f"{other}/health")[0] is ask(f"{server.url}/health")[0] is True


def test_every_state_is_recorded_when_the_server_stops_right_after_a_flow(server: LocalServer, home: Path) -> None:
    """A flow runs Completed against the server; other servers show it later, with all tasks and logs."""
    script = home / "runs.py"
    script.write_text(RUNS)
    done = subprocess.run([sys.executable, script, home / "runs.log"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "380\n"), done.stderr
    assert "Error" not in done.stderr
    told = re.findall(r"\| (?:WARNING|ERROR|CRITICAL) .*", (home / "runs.log").read_text())
    # Prefect's own recorder does again what the stop cut off, and says so.
    assert [line for line in told if not line.endswith(" to retry, 0 dropped)")] == []

    (run,), _ = ask(f"{server.url}/flow_runs/filter", {"flows": {"name": {"any_": ["doubles"]}}})
    assert run["state_type"] == "COMPLETED"
    tasks, _ = ask(f"{server.url}/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert [task["state_type"] for task in tasks] == ["COMPLETED"] * 20
    logs, _ = ask(f"{server.url}/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert sum("Completed" in log["message"] for log in logs) == 21


@pytest.mark.fault(53)
def test_it_listens_on_loopback_only(server: LocalServer) -> None:
    """No other machine can reach the server, which asks nobody who they are."""
    sockets = server_of(psutil.Process()).net_connections("inet")
    listening = [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN]
    assert [f"http://{address.ip}:{address.port}/api" for address in listening] == [server.url]


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "header", [{"Origin": "https://example.org"}, {"Host": "example.org:4200"}, {"Origin": "null"}]
)
def test_web_pages_from_elsewhere_are_refused(server: LocalServer, header: dict[str, str]) -> None:
    """What another page makes a browser ask, under its own name or one bound to this machine, is not answered."""
    with pytest.raises(HTTPError, match="403"):
        ask(f"{server.url}/health", **header)


@pytest.mark.fault(33)
def test_it_ends_when_its_parent_is_killed(server: LocalServer, parent: subprocess.Popen[str]) -> None:
    """A command that is killed with SIGKILL leaves no server behind."""
    orphan = server_of(psutil.Process(parent.pid))
    assert not ended(orphan, within=1)
    parent.kill()
    parent.wait()
    assert ended(orphan, within=10)


def test_stop_while_it_boots_leaves_no_process(home: Path) -> None:
    """A command that is interrupted early does not wait for a server that it no longer needs."""
    server = LocalServer.start(home / "early.log")
    process = psutil.Process(server.process.pid)
    began = time.monotonic()
    server.stop()
    server.stop()
    assert time.monotonic() - began < 5
    assert not process.is_running()


def test_a_server_that_is_late_or_dead_is_told_with_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps the server from coming up is in the file that the error names."""
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{home}/no/such/folder/prefect.db")
    with LocalServer.start(home / "dead.log") as server:
        with pytest.raises(ServerError, match=r"not ready within 0\.1 s.*dead\.log"):
            server.wait(0.1)
        with pytest.raises(ServerError, match=r"ended with status 3.*dead\.log"):
            server.wait()
    assert "unable to open database file" in (home / "dead.log").read_text()


def test_importing_it_is_cheap() -> None:
    """The server is started before anything heavy is imported."""
    code = "import sys, flows.server; print(*{'prefect', 'pydantic', 'asyncio', 'http.client'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "\n"


RESULTS = """
import os, pickle, sys
from pathlib import Path

from prefect import flow
from tasks.step import step

class Deed:
    def __reduce__(self):
        return os.mkdir, (sys.argv[1],)

storage = Path(os.environ["PREFECT_LOCAL_STORAGE_PATH"])
planted = pickle.dumps(Deed())
for name in ("add", "add-0", "result"):
    (storage / name).write_bytes(planted)

@step(name="add")
def add(number):
    return number + 1

@flow(persist_result=False)
def both():
    return add(1), add(1)

print(both(), sorted(path.name for path in storage.iterdir()))
"""


@pytest.mark.fault(49)
@pytest.mark.slow
def test_a_step_keeps_no_result_and_reads_none(server: LocalServer, tmp_path: Path) -> None:
    """Even where a person has Prefect keep results, as pickles: none of a step is written, and none that lies there is
    read."""
    (tmp_path / "storage").mkdir()
    settings = {"PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true", "PREFECT_LOCAL_STORAGE_PATH": str(tmp_path / "storage")}
    env = environment(ROOT, PREFECT_API_URL=server.url, **settings)
    command = [sys.executable, "-c", RESULTS, str(tmp_path / "canary")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["(2, 2) ['add', 'add-0', 'result']"], done
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, '"3.4.0"', ""),
        (200, "<html>", "no Prefect server answers"),
        (404, "", "answers 404"),
        (403, "", "answers 403"),
        (0, "SSH-2.0-OpenSSH", "no Prefect server answers"),
    ],
)
def test_another_server_is_not_taken_for_prefects(status: int, body: str, why: str) -> None:
    """PREFECT_API_URL that leads to MLflow's pages, to Prefect's without /api, or to one that refuses this name is
    told before anything begins."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if status:
                self.send_response(status)
                self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as there:
        threading.Thread(target=there.handle_request, daemon=True).start()
        with pytest.raises(InputError, match=why) if why else nullcontext():
            check(f"http://127.0.0.1:{there.server_port}/api")


@pytest.mark.parametrize("address", ["http://[::1:4200/api", "http://127.0.0.1:abc/api"])
def test_what_is_no_address_is_told(address: str) -> None:
    """Mistyped, PREFECT_API_URL is named with what it holds."""
    with pytest.raises(InputError, match="^PREFECT_API_URL " + re.escape(address)):
        check(address)


def test_a_deployment_that_is_not_there_is_told_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose name has two slashes, which Prefect's client does not understand."""
    there = [SimpleNamespace(name="nightly", flow_id=1), SimpleNamespace(name="by-hand", flow_id=2)]
    flows = {1: SimpleNamespace(name="retrain"), 2: SimpleNamespace(name="crossval")}
    monkeypatch.setattr(SyncPrefectClient, "read_deployments", lambda self: there)
    monkeypatch.setattr(SyncPrefectClient, "read_flow", lambda self, flow: flows[flow])
    told = pytest.raises(InputError, match=r"^a/b/c: .* has crossval/by-hand, retrain/nightly$")
    with SyncPrefectClient("http://127.0.0.1:1/api") as prefect, told:
        _deployment(prefect, "a/b/c")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prefect.toml", '[api]\nurl = "http://team:4200/api"\n'),
        (".env", "PREFECT_API_URL=http://team:4200/api\n"),
        ("pyproject.toml", '[tool.prefect]\napi.url = "http://team:4200/api"\n'),
        ("pyproject.toml", "[project]\n"),
        ("prefect.toml", '[api]\nkey = "k"\n'),
    ],
)
def test_a_server_that_the_folder_names_is_the_persons(name: str, content: str, tmp_path: Path) -> None:
    """As Prefect itself reads it, whatever the profile says; Prefect is not imported for it, since it would not look
    again when a server of our own is named."""
    (tmp_path / name).write_text(content)
    (tmp_path / "profiles.toml").write_text('active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://mine/api"\n')
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    variables |= {"PYTHONPATH": str(ROOT), "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")}
    code = "import sys; from flows.prefect_settings import configured; print(configured(), 'prefect' in sys.modules)"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["http://team:4200/api" if "team" in content else "http://mine/api", "False"]


def test_what_a_profile_says_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password, or a key of Prefect's cloud, from the active profile, as Prefect's own client takes it; a server with
    a certificate of its own is believed as the profile says."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers.get("Authorization")))
            self.send_response(200 if self.headers.get("Authorization") else 401)
            self.end_headers()
            self.wfile.write(b'"3.4.0"')

        def log_message(self, *_: object) -> None:
            pass

    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
    with HTTPServer(("127.0.0.1", 0), Handler) as there:
        there.socket = context.wrap_socket(there.socket, server_side=True)
        threading.Thread(target=there.serve_forever, daemon=True).start()
        address = f"https://127.0.0.1:{there.server_port}/api"

        def profile(**settings: str) -> None:
            lines = "".join(f'{name} = "{value}"\n' for name, value in {"PREFECT_API_URL": address, **settings}.items())
            (tmp_path / "profiles.toml").write_text(f'active = "team"\n[profiles.team]\n{lines}')

        profile(PREFECT_API_AUTH_STRING="anna:secret")
        with pytest.raises(InputError, match=r"no Prefect server answers there .*certificate"):
            check(address)
        trusted = {"PREFECT_API_SSL_CERT_FILE": str(tmp_path / "certificate.pem")}
        profile(**trusted)
        with pytest.raises(InputError, match=r"PREFECT_API_AUTH_STRING .* is not set"):
            check(address)
        for settings in (trusted, {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true"}):
            profile(PREFECT_API_AUTH_STRING="anna:secret", **settings)
            check(address)
            assert seen[-1] == "Basic YW5uYTpzZWNyZXQ="
        profile(PREFECT_API_KEY="pnu_secret", **trusted)
        check(address)
        there.shutdown()


def test_a_server_that_ends_by_itself_is_told_with_its_status_and_log(home: Path) -> None:
    """`weathervane ui`, `demo` and `worker` do not end with a number that means something else."""
    log = home / "thing.log"
    told = re.escape(f"The thing ended with status 1: see {log}")
    with Child("The thing", ["no_such_module"], log) as thing, pytest.raises(ServerError, match=told):
        thing.stay()
