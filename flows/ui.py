"""`weathervane ui`: MLflow's pages with two processes instead of a dozen, opened at the runs."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from flows.environment import apply
from tasks import view
from tasks.tracking import client
from tasks.tracking_read import uri
from weathervane import lifeline, project
from weathervane.errors import InputError
from weathervane.ingest import Ingest
from weathervane.params import load
from weathervane.progress import say

PATIENCE = 180.0  # seconds


def serve(port: int, open_browser: bool) -> int:
    """Serve until Ctrl-C; the exit status.

    Raises:
        InputError: the port is taken.
    """
    root = project.root()
    apply()
    dataset = load(Ingest, root / "params/ingest.yaml").dataset
    address = uri(root)
    if address.startswith("http"):
        say(f"MLflow runs at {address}")
        return 0
    port = _free(port)
    found = client(root).get_experiment_by_name(dataset)
    page = f"http://127.0.0.1:{port}/#/experiments/{found.experiment_id if found else 0}/runs"
    page += view.QUERY if found and view.TAG in found.tags else ""
    log = root / project.LOGS / "mlflow-ui.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "weathervane.lifeline", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    # Not in the command, which every user of the machine can list: it may hold a password.
    environment = {**lifeline.environment(), "MLFLOW_BACKEND_STORE_URI": address}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with open(log, "ab") as output:
        server = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait(server, port, log)
        say(f"{page}\nCtrl-C ends it")
        if open_browser:
            import webbrowser

            webbrowser.open(page)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"--port {port}: {error.strerror}: end what uses it, or choose another") from None
        return int(probe.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise InputError(f"MLflow's server did not come up: see {log}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    import signal

    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
