"""Downloads: over https or from this machine, whole or not at all, and what is wrong with a server."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from weathervane import download
from weathervane.download import fetch
from weathervane.errors import InputError
from weathervane.sources import Mendeley

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/whole; /rest, which breaks off once; /moved?to, a redirect; /large, of a size that it only says."""

    broke_off = False

    def do_GET(self) -> None:
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.path.startswith("/moved?"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(10**12 if self.path == "/large" else len(CONTENT) - begin))
        self.end_headers()
        if self.path == "/rest" and not Handler.broke_off:
            Handler.broke_off = True
            self.wfile.write(CONTENT[:5000])
            return
        self.wfile.write(CONTENT[begin:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_comes_whole(server: str, tmp_path: Path) -> None:
    """Under its final name once it is all there; what is there is not asked for again."""
    target = fetch(f"{server}/whole", tmp_path / "a/file.zip", digest=DIGEST, limit=10**6)
    assert target.read_bytes() == CONTENT and [path.name for path in target.parent.iterdir()] == ["file.zip"]
    assert fetch("https://nowhere.invalid/whole", target, digest=DIGEST, limit=10**6) == target


def test_a_broken_connection_is_gone_on_from(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try asks for the rest only, and the file is the same."""
    monkeypatch.setattr(download, "PAUSE", 0.01)
    target = fetch(f"{server}/rest", tmp_path / "file.zip", digest=DIGEST, limit=10**6)
    assert target.read_bytes() == CONTENT and Handler.broke_off


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/moved?http://example.org/x.zip", "http://example.org/x.zip: only https is fetched"),
        ("/moved?file:///etc/passwd", "file:///etc/passwd"),
        ("/large", "1,000,000,000,000 bytes, at most 1,000,000 are taken"),
    ],
)
def test_what_is_not_fetched(server: str, tmp_path: Path, path: str, told: str) -> None:
    """No server leads away from https, to this machine's files, or to more than was allowed."""
    with pytest.raises(InputError, match=told.replace(".", r"\.")):
        fetch(f"{server}{path}", tmp_path / "file.zip", digest=None, limit=10**6)
    assert not (tmp_path / "file.zip").exists()


@pytest.mark.parametrize("url", ["http://example.org/a.zip", "ftp://example.org/a.zip", "file:///etc/passwd", "a.zip"])
def test_only_https(tmp_path: Path, url: str) -> None:
    """Before any connection."""
    with pytest.raises(InputError, match="only https is fetched"):
        fetch(url, tmp_path / "file.zip", digest=None, limit=10**6)


def test_another_sha256_is_refused(server: str, tmp_path: Path) -> None:
    """Nothing is left that could be taken for the file."""
    with pytest.raises(InputError, match="nothing was taken in"):
        fetch(f"{server}/whole", tmp_path / "file.zip", digest="0" * 64, limit=10**6)
    assert not list(tmp_path.iterdir())


def test_a_page_in_the_place_of_the_dataset_does_not_stay(server: str, tmp_path: Path) -> None:
    """What the publisher's address gives is a zip archive, or is removed and told: the next try fetches anew."""
    with pytest.raises(InputError, match="no zip archive, and is removed"):
        Mendeley(kind="mendeley", url=f"{server}/whole").place(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_who_want_one_file_fetch_it_once(server: str, tmp_path: Path) -> None:
    """'data check' beside an ingest: both have it whole, and neither takes the other's half away."""
    with ThreadPoolExecutor(4) as pool:
        wanted = [pool.submit(fetch, f"{server}/whole", tmp_path / "f", digest=None, limit=10**6) for _ in range(8)]
        assert {one.result().read_bytes() for one in wanted} == {CONTENT}
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
