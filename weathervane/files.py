"""Writing files so that a reader meets the old one or the new one, never half of one, and a full disk is told."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from weathervane.errors import InputError

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "no file may be so large here (ulimit -f, or the file system's limit)",
}


@contextmanager
def replacing(path: Path, mode: str = "w", size: int = 0) -> Iterator[IO[Any]]:
    """A file to write that takes `path`'s place when the block ends well; fsynced, file and folder.

    Args:
        path: of the finished file; its folder is made.
        mode: "w" or "wb"; text is UTF-8 with the line ends that are written.
        size: bytes that the block will write, if it is known: they are reserved before the first one.

    Raises:
        InputError: no room: says how many bytes are needed, and how many are free where. The old file is as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, mode, **text) as file:  # type: ignore[call-overload]
            _reserve(file, size)
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        written = aside.stat().st_size if aside.is_file() else 0
        _remove(aside)  # before the free bytes are counted
        raise_if_no_room(error, path, size or written + 1)
        raise
    finally:
        _remove(aside)
    sync_folder(path.parent)


def append(path: Path, text: str) -> None:
    """Add UTF-8 text to a file, which a kill does not take away any more: fsynced.

    Raises:
        InputError: no room.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise_if_no_room(error, path, len(text))
        raise


def writable(path: Path) -> bool:
    """Whether `replacing` may write there, as far as permissions go."""
    there = next(place for place in path.absolute().parents if os.access(place, os.F_OK))
    return not path.is_dir() and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def move(source: Path, target: Path) -> None:
    """Rename a folder to a name that is free; between file systems it is copied, and each name changes in one go."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near, old = target.with_name(f"{target.name}.part"), source.with_name(f"{source.name}.part")
        for path in (near, old):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(source, near, symlinks=True)
        near.replace(target)
        source.replace(old)
        shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_file():
        path.unlink()


def raise_if_no_room(error: OSError, path: Path, needed: int) -> None:
    """For an error in writing `path`, which takes at least `needed` bytes; does nothing if room is not the matter.

    Raises:
        InputError: no room: says how many bytes are needed, and how many are free where.
    """
    if error.errno in NO_ROOM:
        folder = next(folder for folder in path.absolute().parents if folder.is_dir())
        raise InputError(
            f"{path}: {NO_ROOM[error.errno]}: at least {needed:,} bytes are needed, {_free(folder):,} are free in "
            f"{folder}: make room and run it again"
        ) from None


def check_room(folder: Path, needed: int) -> None:
    """Before hours of work, rather than after them.

    Raises:
        InputError: fewer than `needed` bytes are free in the folder.
    """
    if (free := _free(folder)) < needed:
        raise InputError(f"{folder}: {needed:,} bytes are needed, {free:,} are free: make room and run it again")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _reserve(file: IO[Any], size: int) -> None:
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems that cannot
                raise


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot
            raise
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
