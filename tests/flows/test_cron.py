"""The versions in the lock file, together: package resolvers are content with sets in which cron never fires."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

SERVES = """
from prefect import flow

@flow
def nightly():
    return "done"

if __name__ == "__main__":
    nightly.serve("every five seconds", cron="* * * * * */5")
"""


def ask(url: str, body: object) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_schedule_fires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_database: Path) -> None:
    """A flow that is served with a schedule is run by it: a retraining at 3 in the morning does happen."""
    (tmp_path / "home").mkdir()
    shutil.copyfile(prefect_database, tmp_path / "home/prefect.db")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "nightly.py").write_text(SERVES)
    server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    processes = []
    with (tmp_path / "log").open("w") as log:
        try:
            for command in (server, [sys.executable, "nightly.py"]):
                processes.append(
                    subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
                )
                if command is server:
                    wait_for(f"{url}/health", processes[0], tmp_path / "log")
            deadline, done = time.monotonic() + 150, []
            while not done:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.5)
                wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
                done = ask(f"{url}/flow_runs/filter", wanted)
        finally:
            for process in reversed(processes):
                end(process)
    assert done[0]["auto_scheduled"]


def wait_for(page: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)


def end(process: "subprocess.Popen[bytes]") -> None:
    """With whatever it started."""
    if process.poll() is not None:
        return
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=10)
    for survivor in alive:
        survivor.kill()
    process.wait()
