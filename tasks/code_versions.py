"""Versions of the code: commits of git, asked for and checked out beside the work tree."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.git import git
from weathervane.errors import InputError

NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")  # DVC's would check out data


def has_commit(root: Path, commit: str) -> bool:
    """True if this clone holds the commit."""
    return git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


@contextmanager
def checked_out(root: Path, commit: str, folder: Path) -> Iterator[Path]:
    """A commit's files in `folder`, which is made for it and removed afterwards; work tree and branches stay.

    Raises:
        InputError: git cannot check it out.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed; the forces are for git's record of it
    done = git(root, *NO_HOOKS, "worktree", "add", "--force", "--force", "--detach", str(folder), commit)
    try:
        if done.returncode:
            raise InputError(f"commit {commit}: git cannot check it out: {' '.join(done.stderr.split())}")
        yield folder
    finally:
        git(root, *NO_HOOKS, "worktree", "remove", "--force", "--force", str(folder))
