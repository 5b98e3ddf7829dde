"""Git, by its command."""

import os
import subprocess
from pathlib import Path

ABSENT, LATE = 127, 124  # the shell's status of a command that is not there, and `timeout`'s
LIMIT = 600.0  # seconds: a host that went silent must not hold the clone's locks for hours


def git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What came of `git ...` in a folder; the caller has to look at its status."""
    silent = os.environ | {"GIT_TERMINAL_PROMPT": "0"}  # nobody is there to be asked for a password
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=silent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except OSError as error:
        return subprocess.CompletedProcess(arguments, ABSENT, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, LATE, "", f"git {arguments[0]}: no end after {LIMIT:.0f} s")
