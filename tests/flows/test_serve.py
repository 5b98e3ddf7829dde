"""`mlflow models serve` with the champion, as docs/using.md tells a client."""

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
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.conftest import Home, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, on loopback; nothing can be fetched from anywhere."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/weather-synthetic@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
    env = environment(home.root, MLFLOW_TRACKING_URI=f"sqlite:///{home.root}/mlflow.db", PIP_NO_INDEX="1", PATH=path)
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=home.root, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            with suppress(OSError), opener().open(f"http://127.0.0.1:{port}/ping", timeout=2):
                break
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in [*family, process]:
            with suppress(psutil.Error):
                one.kill()
        process.wait()


def opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, body: Any) -> tuple[int, str]:
    """Status and text of the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    try:
        with opener().open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def encoded(*images: bytes) -> dict[str, Any]:
    return {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(one).decode()] for one in images]}}


def test_photographs_are_answered_as_our_own_model_does(home: Home, url: str) -> None:
    """Class and tempered probabilities of several photographs, in both forms that the docs show."""
    from weathervane.model import Model

    version = home.mlflow.get_model_version_by_alias("weather-synthetic", "champion")
    model = Model.load(Path(home.mlflow.download_artifacts(version.run_id, "model")))
    images = [path.read_bytes() for path in sorted((home.root / "data/raw").glob("*/*.jpg"))[::20]]
    expected = model.classify(images)
    status, text = ask(url, encoded(*images))
    assert status == 200, text
    answers = json.loads(text)["predictions"]
    for answer, row in zip(answers, expected, strict=True):
        assert answer["class"] == model.spec.classes[row.argmax()]
        assert answer["probability"] == pytest.approx(row.max(), abs=1e-5)
        assert [answer[f"p_{name}"] for name in model.spec.classes] == pytest.approx(row, abs=1e-5)
    status, text = ask(url, {"dataframe_records": [{"image": base64.b64encode(images[0]).decode()}]})
    assert status == 200 and json.loads(text)["predictions"] == answers[:1]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (encoded(b"no photograph"), "an image cannot be used: not an image"),
        (encoded(b""), "an image cannot be used: empty"),
        ({"dataframe_split": {"columns": ["image"], "data": [["/etc/passwd"]]}}, "image"),
        ({"dataframe_split": {"columns": ["picture"], "data": [["aGk="]]}}, "image"),
        ({"dataframe_split": {"columns": ["image"], "data": [[5]]}}, "image"),
        (b"{", "JSON"),
        ({"nothing": 1}, "dataframe_split"),
    ],
)
def test_what_cannot_be_used_is_a_400(url: str, body: Any, told: str) -> None:
    """Bad input is the client's fault, in a clear line: never a 500, never a traceback."""
    status, text = ask(url, body)
    assert status == 400, text
    assert told in text and "Traceback" not in text
