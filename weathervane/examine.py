"""Looking at a file once: what ingest must know of a picture, and a record of it, so that none is looked at twice.

The record (.weathervane/examined.sqlite) is a cache: content is known by its sha256 alone, and a file by its path, size
and modification time, as in git's index. It may be deleted at any time.
"""

import hashlib
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import PIL

from weathervane import duplicates, images
from weathervane.duplicates import SIDE, Signature, signature

COMMIT_EVERY = 1.0  # seconds: so much is looked at again after a kill
SCHEMA = (
    "CREATE TABLE content (sha256 TEXT PRIMARY KEY, format TEXT, width INTEGER, height INTEGER, notes TEXT, "
    "dhash BLOB, grey BLOB, reason TEXT, detail TEXT)",
    "CREATE TABLE files (path BLOB PRIMARY KEY, stamp TEXT, sha256 TEXT)",
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What a look at a good photograph shows; `size` is its width and height in pixels, upright."""

    format: str
    size: tuple[int, int]
    notes: str
    signature: Signature


Outcome = Picture | images.BadImage


def look(data: bytes) -> Outcome:
    """Decode whole, because a header alone proves nothing, but small."""
    try:
        image = images.open_image(data)
        size, kind, notes = images.sides(image), str(image.format), images.notes(image)
        image.draft("L", (256, 256))  # the smallest scale that gives the groups of full decoding
        return Picture(kind, size, "; ".join(notes), signature(images.upright(image)))
    except images.BadImage as bad:
        return bad


def _version() -> int:
    """Another number, of 31 bits, whenever a look might have another outcome."""
    code = (Path(str(module)).read_bytes() for module in (__file__, images.__file__, duplicates.__file__))
    return int(hashlib.sha256(b"\0".join([PIL.__version__.encode(), *code])).hexdigest()[:8], 16) >> 1


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")  # not every name is UTF-8


class Record:
    """Outcomes by content, and contents by file; usable from several threads. Without a path it is kept in memory.

    A cache must not stop an ingest: what SQLite cannot read is looked at again, what it cannot write is not recorded,
    and a file with which it had trouble is removed at the end.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.looks = 0  # how many pictures were looked at since it was opened
        self._lock = threading.Lock()
        self._committed = time.monotonic()
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._trouble = False
        self._db = self._connect()
        if self._run("PRAGMA user_version") != [(_version(),)]:
            self._db.close()
            self._remove()
            self._trouble = False
            self._db = self._connect()
            for statement in (*SCHEMA, f"PRAGMA user_version = {_version()}"):
                self._run(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._db.commit()
        except sqlite3.Error:
            self._trouble = True
        self._db.close()
        if self._trouble:
            self._remove()

    def outcome(self, sha256: str) -> Outcome | None:
        """What the look at these bytes showed; None if there was none."""
        found = self._run("SELECT * FROM content WHERE sha256 = ?", sha256)
        if not found:
            return None
        _, kind, width, height, notes, dhash, grey, reason, detail = found[0]
        if reason:
            return images.BadImage(reason, detail)
        thumbnail = np.frombuffer(grey, np.uint8).reshape(SIDE, SIDE)
        return Picture(kind, (width, height), notes, Signature(np.frombuffer(dhash, np.uint64)[0], thumbnail))

    def look(self, sha256: str, data: bytes) -> Outcome:
        """What a look at these bytes shows; the first one is recorded."""
        if known := self.outcome(sha256):
            return known
        found = look(data)
        if isinstance(found, images.BadImage):
            values: tuple[object, ...] = (*(None,) * 6, found.reason, found.detail)
        else:
            dhash, grey = found.signature.dhash.tobytes(), found.signature.grey.tobytes()
            values = (found.format, *found.size, found.notes, dhash, grey, None, None)
        self._run("INSERT OR REPLACE INTO content VALUES (?,?,?,?,?,?,?,?,?)", sha256, *values)
        self.looks += 1
        return found

    def sha256(self, path: str, stamp: str) -> str | None:
        """The content of a file that was read when it had this stamp; None if it was not, or has another by now."""
        found = self._run("SELECT sha256 FROM files WHERE path = ? AND stamp = ?", _bytes(path), stamp)
        return str(found[0][0]) if found else None

    def saw(self, path: str, stamp: str, sha256: str) -> None:
        """Record the content of a file as it is with this stamp."""
        self._run("INSERT OR REPLACE INTO files VALUES (?,?,?)", _bytes(path), stamp, sha256)

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self.path or ":memory:", check_same_thread=False)
        except sqlite3.Error:  # the folder is read-only
            return sqlite3.connect(":memory:", check_same_thread=False)

    def _remove(self) -> None:
        if self.path:
            for path in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                with suppress(OSError):
                    path.unlink()

    def _run(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                found = self._db.execute(statement, values).fetchall()
                if time.monotonic() - self._committed > COMMIT_EVERY:
                    self._db.commit()
                    self._committed = time.monotonic()
                return found
            except sqlite3.Error:
                self._trouble = True
                return []
