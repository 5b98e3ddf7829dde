"""Locks of this clone, which the system frees when their holder is killed."""

from pathlib import Path

from filelock import FileLock

from weathervane import project

DATA, STORE, RETRAIN = "data", "mlflow", "retrain"


def lock(root: Path, name: str, timeout: float = -1) -> FileLock:
    """The lock of that name, to be entered; `timeout` in seconds, for ever by default.

    Entering raises filelock.Timeout where another process holds it for longer.
    """
    place = root / project.LOCKS
    place.mkdir(parents=True, exist_ok=True)
    return FileLock(place / f"{name}.lock", timeout=timeout)


def champion(dataset: str) -> str:
    """The name of the lock of decisions about a dataset's champion."""
    return f"champion-{dataset}"
