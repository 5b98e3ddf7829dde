"""Versions of the code: commits of git, asked for and checked out beside the work tree."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weathervane.errors import InputError


def has_commit(root: Path, commit: str) -> bool:
    """True if this clone holds the commit."""
    return _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


@contextmanager
def checked_out(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """A commit's files in `folder`, which is made for it and removed afterwards; work tree and branches stay.

    Raises:
        InputError: git cannot check it out.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed; the forces are for git's record of it
    done = _git(root, "worktree", "add", "--force", "--force", "--detach", str(folder), commit)
    try:
        if done.returncode:
            raise InputError(f"commit {commit}: git cannot check it out: {' '.join(done.stderr.split())}")
        yield folder
    finally:
        _git(root, "worktree", "remove", "--force", "--force", str(folder))


def _git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # Hooks are off: DVC's would check out data.
    command = ["git", "-c", f"core.hooksPath={os.devnull}", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)
