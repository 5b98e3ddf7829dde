"""Git, by its command."""

import subprocess
from pathlib import Path

ABSENT = 127  # the shell's status of a command that is not there


def git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What came of `git ...` in a folder; nobody but the caller looks at its status."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except OSError as error:
        return subprocess.CompletedProcess(arguments, ABSENT, "", str(error))
