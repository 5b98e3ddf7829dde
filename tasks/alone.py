"""One retraining at a time in a clone: the second waits, and says for whom."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from tasks.locks import RETRAIN, lock
from weathervane import project
from weathervane.files import replacing
from weathervane.owner import me
from weathervane.progress import say


@contextmanager
def alone(root: Path, wait: bool = True) -> Iterator[bool]:
    """Holds the clone's retraining lock; the kernel frees that of a killed process.

    Yields True; or False, without the lock, where another has it and this one does not `wait`.
    """
    mine, holder = lock(root, RETRAIN), root / project.LOCKS / "retrain.holder"
    try:
        mine.acquire(timeout=0)
    except Timeout:
        if not wait:
            yield False
            return
        other = holder.read_text(encoding="utf-8") if holder.is_file() else "it has just started"
        say(f"waiting for another retraining in {root}: {other}")
        mine.acquire()
    try:
        host, _, pid, _ = me().split(" ")
        with replacing(holder) as file:
            file.write(f"process {pid} on {host}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        yield True
    finally:
        holder.unlink(missing_ok=True)
        mine.release()
