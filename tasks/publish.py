"""The step `publish`: if params/ingest.yaml says `commit: push`, the data's bytes and its two files go out.

For a worker that has a clone of its own; a person commits by hand (`commit: never`).
"""

from pathlib import Path

from tasks.data import INGEST
from tasks.dvc_lock import DVC_LOCK, RAW_DVC
from tasks.git import git
from tasks.retries import RETRY
from tasks.step import step
from weathervane.errors import InputError
from weathervane.ingest import Ingest
from weathervane.params import load
from weathervane.progress import say

FILES = (RAW_DVC, DVC_LOCK)


@step(name="publish", **RETRY)
def publish(root: Path) -> bool:
    """Push the bytes to DVC's remote first, then commit exactly data/raw.dvc and dvc.lock, and push.

    Returns:
        False where the commit waits: somebody has pushed meanwhile, and their code must not come under this run. The
        next run begins with it.

    Raises:
        InputError: no DVC remote, or git refuses, or somebody else has committed other data; nothing is lost, and the
            next run tries again.
    """
    if load(Ingest, root / INGEST).commit == "never":
        return True
    from tasks.dvc_repo import push

    push(root)
    changed = bool(_git(root, "status", "--porcelain", "--", *FILES))
    if changed:
        _git(root, "add", "--", *FILES)
        _git(root, "commit", "--quiet", "--message", "Data as of this retraining", "--", *FILES)
    pushed = _push(root)
    told = "committed and pushed" if changed else "are as they were committed"
    waits = "are committed, and go out with the next run that begins with what somebody has pushed meanwhile"
    say(f"publish: {' and '.join(FILES)} {told if pushed else waits}")
    return pushed


def _push(root: Path) -> bool:
    """False where somebody has pushed meanwhile, and a commit waits."""
    try:
        _git(root, "push", "--quiet")
        return True
    except InputError:
        git(root, "fetch", "--quiet")
        theirs = git(root, "diff", "--name-only", "HEAD...@{upstream}").stdout.split()
        if not theirs:
            raise
    if not git(root, "rev-list", "@{upstream}..HEAD").stdout:  # git refuses that, too
        return True
    if RAW_DVC in theirs:
        raise InputError(
            f"commit: push in params/ingest.yaml: somebody else has committed another {RAW_DVC}: bring both together "
            "by 'git pull --rebase', then run it again"
        )
    return False


def _git(root: Path, *arguments: str) -> str:
    done = git(root, *arguments)
    if done.returncode:
        raise InputError(f"commit: push in params/ingest.yaml: 'git {arguments[0]}' failed: {done.stderr.strip()}")
    return done.stdout
