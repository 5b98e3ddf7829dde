"""The step `publish`: if params/ingest.yaml says `commit: push`, the data's bytes and its two files go out.

For a worker that has a clone of its own; a person commits by hand (`commit: never`).
"""

from pathlib import Path

from tasks.data import INGEST
from tasks.git import git
from tasks.momentary import RETRY
from tasks.step import step
from weathervane.errors import InputError
from weathervane.ingest import Ingest
from weathervane.params import load
from weathervane.progress import say

FILES = ("data/raw.dvc", "dvc.lock")


@step(name="publish", **RETRY)
def publish(root: Path) -> bool:
    """Push the bytes to DVC's remote first, then commit exactly data/raw.dvc and dvc.lock, and push; True if done.

    Raises:
        InputError: no DVC remote, or git refuses, such as where somebody else has committed other data; nothing is
            lost, and the next run tries again.
    """
    if load(Ingest, root / INGEST).commit == "never":
        return False
    from tasks.dvc_repo import push

    push(root)
    changed = bool(_git(root, "status", "--porcelain", "--", *FILES))
    if changed:
        _git(root, "add", "--", *FILES)
        _git(root, "commit", "--quiet", "--message", "Data as of this retraining", "--", *FILES)
    _push(root)
    say(f"publish: {' and '.join(FILES)} {'committed and pushed' if changed else 'are as they were committed'}")
    return True


def _push(root: Path) -> None:
    """Where somebody pushed meanwhile, on top of that."""
    try:
        _git(root, "push", "--quiet")
    except InputError as refused:
        try:
            _git(root, "pull", "--quiet", "--rebase", "--autostash")
        except InputError as conflict:
            begun = git(root, "rebase", "--abort").returncode == 0
            raise (conflict if begun else refused) from None
        _git(root, "push", "--quiet")


def _git(root: Path, *arguments: str) -> str:
    done = git(root, *arguments)
    if done.returncode:
        raise InputError(f"commit: push in params/ingest.yaml: 'git {arguments[0]}' failed: {done.stderr.strip()}")
    return done.stdout
