"""Whether a file is still open somewhere, by a lock (flock) that lives as long as whoever opened it."""

import fcntl
from contextlib import suppress
from pathlib import Path
from typing import IO


def hold(file: IO[bytes]) -> None:
    """Have `held` say so of this file for as long as it is open here, or in what is started with it."""
    with suppress(OSError):  # a file system without such locks
        fcntl.flock(file, fcntl.LOCK_SH)


def held(path: Path) -> bool:
    """Whether any process of this machine has it open, and holds it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a folder, or a file system without such locks
        return False
    return False
