"""Locks of this clone, which the system frees when their holder is killed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from weathervane import project
from weathervane.files import replacing
from weathervane.owner import in_words, me
from weathervane.progress import say

DATA, STORE, RETRAIN = "data", "mlflow", "retrain"
REPRODUCE, BACKUP = "reproduce", "backup"


def lock(root: Path, name: str, timeout: float = -1) -> FileLock:
    """The lock of that name, to be entered; `timeout` in seconds, for ever by default.

    Entering raises filelock.Timeout where another process holds it for longer.
    """
    place = root / project.LOCKS
    place.mkdir(parents=True, exist_ok=True)
    return FileLock(place / f"{name}.lock", timeout=timeout)


def champion_lock(root: Path, dataset: str) -> FileLock:
    """One decision at a time about a dataset's champion."""
    return lock(root, f"champion-{dataset}")


@contextmanager
def waited_for(mine: FileLock, whom: str) -> Iterator[None]:
    """Holds the lock; where another process has it, says for whom it waits."""
    try:
        mine.acquire(timeout=0)
    except Timeout:
        say(f"waiting for {whom}")
        mine.acquire()
    try:
        yield
    finally:
        mine.release()


@contextmanager
def retrain_lock(root: Path, wait: bool = True, who: str = "") -> Iterator[bool]:
    """One at a time of those who change this clone's data or train on it: the second waits, and says for whom.

    `who` names the holder beside its process. Yields True; or False, without the lock, where another has it and this
    one does not `wait`.
    """
    mine, holder = lock(root, RETRAIN), root / project.LOCKS / "retrain.holder"
    try:
        mine.acquire(timeout=0)
    except Timeout:
        if not wait:
            yield False
            return
        other = "one that has just started"
        with suppress(FileNotFoundError):
            other = holder.read_text(encoding="utf-8")
        say(f"waiting for other work in {root}: {other}")
        mine.acquire()
    try:
        with replacing(holder) as file:
            holds = ", ".join(filter(None, (in_words(me()), who)))
            file.write(f"{holds}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        yield True
    finally:
        holder.unlink(missing_ok=True)
        mine.release()
