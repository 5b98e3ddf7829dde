"""`weathervane up`: what a small team needs, on loopback, until Ctrl-C.

Prefect's server, MLflow's server with proxied artifacts, the deployments, a worker in this clone. Their stores are in
`servers/`; PREFECT_API_DATABASE_CONNECTION_URL and MLFLOW_BACKEND_STORE_URI put either in PostgreSQL instead.
"""

import os
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from flows import mlflow_server
from flows.beside import noted
from flows.deploy import DONE, PARTLY
from flows.server import LocalServer
from flows.service import Child, ServerError, end_as_by_ctrl_c, free
from flows.worker import Worker
from tasks.tracking_read import check_server
from weathervane import project
from weathervane.errors import InputError
from weathervane.files import replacing
from weathervane.progress import say

RESTARTS, WITHIN = 3, 300.0  # so many in so many seconds are borne; more are no accident
POLL = 1.0  # seconds


def up(port: int, mlflow_port: int, auth: bool) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit status.

    Raises:
        InputError: a port is taken, another `weathervane up` is at work here, a password is missing.
        ServerError: a server does not come up, or ends again and again.
    """
    root = project.root()
    end_as_by_ctrl_c()
    home, logs = root / project.SERVERS, root / project.LOGS
    home.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(home / "up.lock")
    try:
        with lock.acquire(timeout=0), ExitStack() as stack:
            return _serve(root, home, logs, (port, mlflow_port), auth, stack)
    except Timeout:
        raise InputError(f"{home}: another 'weathervane up' is at work there") from None
    except KeyboardInterrupt:
        say("ended")
        return 0


def _serve(root: Path, home: Path, logs: Path, ports: tuple[int, int], auth: bool, stack: ExitStack) -> int:
    mlflow_port = free(ports[1], "--mlflow-port")  # before anything has been started
    arguments, settings = ["--artifacts-destination", str(home / "artifacts")], _backend(home)
    if auth:
        more, secret = _auth(home)
        arguments, settings = arguments + more, settings | secret

    def start_prefect(port: int) -> LocalServer:
        return LocalServer.start(logs / "prefect-server.log", port, home)

    def start_mlflow(port: int) -> Child:
        return mlflow_server.start(root, logs / "mlflow-server.log", port, arguments, settings, "--mlflow-port")

    prefect = stack.enter_context(start_prefect(ports[0]))
    _make_store(root, home)
    mlflow = stack.enter_context(start_mlflow(mlflow_port))
    environment = {"PREFECT_API_URL": prefect.url, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow.port}"}
    if auth:
        environment["PREFECT_API_AUTH_STRING"] = os.environ["PREFECT_SERVER_API_AUTH_STRING"]
    say("Prefect's and MLflow's servers are starting ...")
    prefect.wait()
    _deploy(root, environment)
    mlflow.wait()
    if auth:
        _check_password(environment["MLFLOW_TRACKING_URI"])
    start_worker = partial(Worker.start, root, logs / "worker.log", environment)
    worker = stack.enter_context(start_worker())
    worker.wait()
    say(f"Prefect  http://127.0.0.1:{prefect.port}\nMLflow   {environment['MLFLOW_TRACKING_URI']}")
    addresses = " ".join(f"{name}={environment[name]}" for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"))
    stack.enter_context(noted(root, f"export {addresses}"))
    say(f"in MLflow's page choose Model training, at the top left; in other terminals: export {addresses}")
    say(f"on loopback only; a worker runs in {root}; logs are in {logs}\nCtrl-C ends everything")
    makers: list[tuple[Child, Callable[[], Child]]] = [
        (prefect, lambda: start_prefect(prefect.port)),
        (mlflow, lambda: start_mlflow(mlflow.port)),
        (worker, start_worker),
    ]
    return _watch(makers, stack)


def _watch(makers: list[tuple[Child, Callable[[], Child]]], stack: ExitStack) -> int:
    """Start again what ends by itself; for ever, unless it ends too often."""
    restarts: deque[float] = deque(maxlen=RESTARTS)
    while True:
        time.sleep(POLL)
        for place, (child, make) in enumerate(makers):
            child.look()
            if not child.ended:
                continue
            what = f"{child.name} ended with status {child.process.returncode}: see {child.log}"
            if len(restarts) == RESTARTS and time.monotonic() - restarts[0] < WITHIN:
                raise ServerError(f"{what}; so often that it is not started again")
            restarts.append(time.monotonic())
            say(f"{what}; starting it again")
            child.end_session()  # what it left behind may hold its port; a worker's flow runs go on
            makers[place] = (stack.enter_context(make()), make)


def _backend(home: Path) -> dict[str, str]:
    """MLflow's store; an address with a password stays out of the process list."""
    return {"MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{home / 'mlflow.db'}")}


def _make_store(root: Path, home: Path) -> None:
    """Make MLflow's database aside, so that a kill in the middle does not wedge it."""
    if "MLFLOW_BACKEND_STORE_URI" not in os.environ and not (home / "mlflow.db").exists():
        from tasks.tracking import make_database

        make_database(root, home / "mlflow.db")


def _auth(home: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and settings of an MLflow server with passwords; those of Prefect's are in the environment."""
    needed = ("PREFECT_SERVER_API_AUTH_STRING", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    if missing := [name for name in needed if not os.environ.get(name)]:
        raise InputError(f"--auth: set {' and '.join(missing)} (user:password, the admin's name, the admin's password)")
    if len(os.environ["MLFLOW_TRACKING_PASSWORD"]) < 12:
        raise InputError("--auth: MLFLOW_TRACKING_PASSWORD: MLflow wants 12 characters or more")
    config, key = home / "mlflow-auth.ini", home / "mlflow-secret-key"
    with replacing(config) as file:
        os.fchmod(file.fileno(), 0o600)
        user = os.environ["MLFLOW_TRACKING_USERNAME"]
        file.write(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = {user}\n")
        file.write(f"database_uri = sqlite:///{home / 'mlflow-auth.db'}\n")
        file.write("auth_cache_ttl_seconds = 60\n")  # a password is hashed for a third of a second, for each request
        file.write("authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n")
    if not key.exists():
        with replacing(key) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_hex(32))
    return ["--app-name", "basic-auth"], {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_PASSWORD": os.environ["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key.read_text(encoding="utf-8"),
    }


def _check_password(address: str) -> None:
    """MLflow takes its administrator's password at its first start, and heeds no other afterwards.

    Raises:
        InputError: the password of today is not that one.
    """
    try:
        check_server(address)
    except InputError as error:
        user = os.environ["MLFLOW_TRACKING_USERNAME"]
        raise InputError(
            f"--auth: MLflow's server does not let '{user}' in ({error}). Its administrator's name and password are "
            f"those of its first start ({project.SERVERS}/mlflow-auth.db): start with them, then change the password "
            "by mlflow.server.get_app_client('basic-auth', ADDRESS).update_user_password(USER, NEW)"
        ) from None


def _deploy(root: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flows.cli", "deploy"]
    done = subprocess.run(command, cwd=root, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode == PARTLY and DONE in done.stdout:  # it is the status of a crash as well
        say(done.stdout.strip())
    elif done.returncode:
        raise InputError(f"'weathervane deploy' failed: {done.stderr.strip() or done.stdout.strip()}")
