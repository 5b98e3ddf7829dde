"""`mlflow models serve`, as a client meets it."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.flows.conftest import environment


@contextmanager
def serving(root: Path, model: str, uri: str, log: Path) -> Iterator[str]:
    """The address of a server with this model, on loopback; nothing can be fetched from anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
    env = environment(root, MLFLOW_TRACKING_URI=uri, PIP_NO_INDEX="1", PATH=path)
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=root, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            with suppress(OSError), _opener().open(f"http://127.0.0.1:{port}/ping", timeout=2):
                break
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in [*family, process]:
            with suppress(psutil.Error):
                one.kill()
        process.wait()


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, body: Any) -> tuple[int, str]:
    """Status and text of the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    try:
        with _opener().open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def encoded(*images: bytes) -> dict[str, Any]:
    """The body of a request about photographs."""
    return {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(one).decode()] for one in images]}}
