"""A child process that does not outlive its parent, even one that was killed with SIGKILL.

`python -m weathervane.lifeline MODULE ...` runs any module so.
"""

import os
import runpy
import signal
import sys
import threading
import time

VARIABLE = "WEATHERVANE_PARENT"
TORCHRUN = "TORCHELASTIC_RUN_ID"  # set in the processes that torchrun starts, and only there
POLL, GRACE = 0.5, 8.0  # seconds


def environment() -> dict[str, str]:
    """The variables of a child that is to end when this process does."""
    return {**os.environ, VARIABLE: str(os.getpid())}


def hold() -> None:
    """In the child: end this process once its parent is gone. Does nothing in one that was started by hand."""
    if parent := os.environ.pop(VARIABLE, None):
        threading.Thread(target=_end_after, args=[int(parent)], daemon=True).start()


def _end_after(parent: int) -> None:
    """By SIGTERM, and some seconds later for certain; with its children, if it leads a group of its own."""
    # Not a pipe, which a child that the parent forked without exec would hold open.
    while os.getppid() == parent:
        time.sleep(POLL)
    end = os.killpg if os.getpgrp() == os.getpid() else os.kill
    end(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    end(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    hold()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
