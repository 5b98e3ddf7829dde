"""What a worker does before each run of a deployment: its own clone, brought up to date.

A worker runs in a clone that somebody made (`git clone`, `make setup`), with that clone's environment. Nothing else
gets code to it; the data comes by DVC, where `data/raw.dvc` says that there is a newer version.
"""

import logging
import os
import sys
from pathlib import Path

from flows.environment import OLDER_CODE
from tasks.dvc_lock import DVC_LOCK, RAW_DVC
from tasks.git import git
from tasks.locks import lock, retrain_lock
from weathervane.files import replacing
from weathervane.progress import say

ROOT = Path(__file__).parents[1]
LOCK, INSTALLED = "requirements.lock", ".venv/ready"  # the latter is a copy of the lock that `make setup` installed
WRITTEN = {RAW_DVC, DVC_LOCK}  # by retrainings themselves


def bring_up_to_date(root: Path = ROOT) -> dict[str, str]:
    """A pull step of prefect.yaml: bring the clone to its branch, data that it has committed on top, and run in it.

    While a retraining is at work there the code stays as it is.

    Returns:
        directory: the clone, where the flow runs.

    Raises:
        RuntimeError: the code wants other packages than are installed.
    """
    with lock(root, "pull"), retrain_lock(root, wait=False) as mine:  # another pull is waited for, a retraining is not
        if mine and _git(root, "rev-parse", "--abbrev-ref", "@{upstream}") is not None:
            before = _head(root)
            _pull(root)
            if root == ROOT and _head(root) != before:
                _forget_older_code()
    installed, wanted = root / INSTALLED, root / LOCK
    if installed.is_file() and installed.read_bytes() not in (b"", wanted.read_bytes()):
        raise RuntimeError(
            f"{root}: {LOCK} is not what is installed: run 'make setup' there, then start its worker anew"
        )
    return {"directory": str(root)}


def _pull(root: Path) -> None:
    changed = {line[3:] for line in (_git(root, "status", "--porcelain", "--untracked-files=no") or "").splitlines()}
    if changed - WRITTEN:
        why = "has changes that are not committed"
    elif _git(root, "fetch", "--quiet") is None or not (_forwarded(root, DVC_LOCK in changed) or _rebased(root)):
        why = (
            "could not be brought up to date by 'git pull' (a commit of its own that is not pushed, other data there?)"
        )
    else:
        return
    told = f"{root} {why}: left as it is, at {_head(root)}"
    say(told, logging.WARNING)
    os.environ[OLDER_CODE] = told  # the flow, which begins after this in the same process, says it on its page


def _forwarded(root: Path, keep: bool) -> bool:
    """Take what only comes on top. With `keep`, dvc.lock stays the clone's own, which is not committed: what comes with
    newer code is of other data. Lost by a kill, it is made again."""
    path = root / DVC_LOCK
    own = path.read_bytes() if keep and path.is_file() else None
    if keep:
        _git(root, "checkout", "--", DVC_LOCK)
    try:
        return _git(root, "merge", "--quiet", "--ff-only", "@{upstream}") is not None
    finally:
        if own is not None:
            with replacing(path, "wb") as file:
                file.write(own)


def _rebased(root: Path) -> bool:
    """Put data that a retraining has committed on top of what others have; a person's commits are theirs to move."""
    ahead, behind = (
        set((_git(root, "diff", "--name-only", ends) or "").splitlines())
        for ends in ("@{upstream}...HEAD", "HEAD...@{upstream}")
    )
    if not ahead <= WRITTEN or RAW_DVC in behind:
        return False
    # "Theirs" are in a rebase the commits that are moved: dvc.lock stays that of this clone's data.
    done = _git(root, "rebase", "--quiet", "--strategy-option", "theirs", "@{upstream}") is not None
    if not done:
        _git(root, "rebase", "--abort")
    return done


def _forget_older_code() -> None:
    """What this process has imported by now, or the flow would run on a mixture of older and newer modules."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flows", "tasks", "weathervane")]:
        del sys.modules[name]


def _head(root: Path) -> str | None:
    return _git(root, "rev-parse", "HEAD")


def _git(root: Path, *arguments: str) -> str | None:
    """What it prints; None where it fails."""
    done = git(root, *arguments)
    return done.stdout.rstrip() if done.returncode == 0 else None
