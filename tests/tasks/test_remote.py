"""The data's bytes between machines: a remote that speaks S3, on loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import dvc_repo
from tasks.dvc_lock import md5
from tests.conftest import dvc

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with an empty bucket `bucket`."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
                break
            except Exception:
                assert time.monotonic() < deadline, "the S3 server did not come up"
                time.sleep(0.3)
        yield url
    finally:
        server.terminate()
        server.wait(10)


def test_bytes_go_out_to_s3_and_come_back(project: Path, endpoint: str, tmp_path: Path) -> None:
    """What one clone pushes to an S3 remote, another clone that has only data/raw.dvc brings back, byte for byte."""
    raw = project / "data/raw/rain"
    raw.mkdir(parents=True)
    for number in range(5):
        (raw / f"{number}.jpg").write_bytes(bytes([number]) * 1000)
    dvc(project, "remote", "add", "-q", "-d", "store", "s3://bucket/data")
    dvc(project, "remote", "modify", "-q", "store", "endpointurl", endpoint)
    (project / "dvc.lock").unlink(missing_ok=True)
    version = dvc_repo.add(project, "data/raw", {"dataset": "weather"})
    dvc_repo.push(project)

    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", str(project), str(other)], check=True)
    for name in ("data/raw.dvc", ".dvc/config"):
        (other / name).write_bytes((project / name).read_bytes())
    assert not (other / "data/raw").exists()
    assert dvc_repo.fetch(other, "data/raw")
    assert md5(other / "data/raw") == version
