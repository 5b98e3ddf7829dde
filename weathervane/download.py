"""Fetching a file by URL: resumable, checked, with a bar; nothing half-written under the final name."""

import base64
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from weathervane.errors import InputError
from weathervane.files import sha256, sync_folder
from weathervane.progress import bar, say

BLOCK = 1 << 20  # bytes
TIMEOUT, TRIES, PAUSE = 30.0, 4, 2.0  # seconds without a byte, attempts, seconds before the second (then doubled)
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def fetch(url: str, target: Path, *, digest: str | None, limit: int) -> Path:
    """Download `url` to `target`, unless it is there already; an interrupted download goes on where it was.

    Args:
        url: https, or http on loopback.
        target: where the file will stand once it is whole.
        digest: its sha256 in hex; None where the publisher gives none and the content is checked otherwise.
        limit: largest size in bytes.

    Raises:
        InputError: another scheme, a server that refuses, too large, or another sha256.
    """
    _check(url)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent):  # 'data check' may want it at the same time
        return target if target.is_file() else _fetched(url, target, digest, limit)


def _fetched(url: str, target: Path, digest: str | None, limit: int) -> Path:
    partial = target.with_name(f"{target.name}.part")
    for attempt in range(TRIES):
        try:
            _go_on(url, partial, limit)
            break
        except (OSError, HTTPException) as error:
            if attempt == TRIES - 1 or (isinstance(error, HTTPError) and error.code < 500):
                raise InputError(
                    f"{url}: {error}: try again (what came stays in {partial.name}), or fetch it by hand"
                ) from None
            say(f"{url}: {error}; trying again")
            time.sleep(PAUSE * 2**attempt)
    if digest and (found := sha256(partial)) != digest:
        partial.unlink()
        raise InputError(f"{url}: its sha256 is {found}, not {digest}: the file changed; nothing was taken in")
    partial.replace(target)
    sync_folder(target.parent)
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While nobody else fetches into the folder; leaves nothing there, and ends with the process."""
    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # NFS locks no folders
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise InputError(f"{url}: only https is fetched")


class _Redirects(HTTPRedirectHandler):
    """Follows a server to where the file has moved, but not away from https."""

    def redirect_request(self, request: Request, *about: Any) -> Request | None:
        """The last of what `about` holds is the new address."""
        if urlsplit(request.full_url).scheme == "https" and not about[-1].startswith("https://"):
            raise InputError(f"{about[-1]}: only https is fetched")
        _check(about[-1])
        return super().redirect_request(request, *about)


def _go_on(url: str, partial: Path, limit: int) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    try:
        opened = build_opener(_Redirects).open(_request(url, have), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:  # the server has no byte beyond those that came: the file is whole
            return
        raise
    with opened as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total is not None and total > limit:
            raise InputError(f"{url}: {total:,} bytes, at most {limit:,} are taken")
        with (
            open(partial, "ab" if resumed else "wb") as file,
            bar(f"fetch {Path(urlsplit(url).path).name}", total) as step,
        ):
            step(have)
            for block in iter(lambda: answer.read(BLOCK), b""):
                have += len(block)
                if have > limit:
                    raise InputError(f"{url}: more than {limit:,} bytes: stopped")
                file.write(block)
                step(len(block))
        if total is not None and have < total:
            raise HTTPException(f"the connection ended after {have:,} of {total:,} bytes")


def _request(url: str, have: int) -> Request:
    """For what follows the first `have` bytes; user and password go into a header, where urllib does not put them."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "weathervane"})
    if user:
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(unquote(user).encode()).decode())
    if have:
        request.add_header("Range", f"bytes={have}-")
    return request
