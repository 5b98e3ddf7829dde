"""Git, by its command: what it says, and commits checked out beside the work tree."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weathervane.errors import InputError

ABSENT, LATE = 127, 124  # the shell's status of a command that is not there, and `timeout`'s
NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")  # DVC's would check out data
NOTHING = ("unknown revision", "bad revision", "invalid object name", "does not exist in", "exists on disk, but not in")
LIMIT = 600.0  # seconds: a host that went silent must not hold the clone's locks for hours


def git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What came of `git ...` in a folder; the caller has to look at its status."""
    silent = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # nobody is there to be asked for a password
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


def git_output(root: Path, *arguments: str) -> str:
    """What git prints; nothing where there is no such revision or file in it, or this is no clone.

    Raises:
        InputError: git fails: it is not there, takes too long, refuses a clone of another owner, or misses an object.
    """
    done = git(root, *arguments)
    nothing = NOTHING if (root / ".git").exists() else (*NOTHING, "not a git repository")
    if done.returncode and not any(words in done.stderr for words in nothing):
        raise InputError(f"{root}: git cannot read its history: {' '.join(done.stderr.split())}")
    return done.stdout


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
