"""What a worker does before each run of a deployment: its own clone, brought up to date.

A worker runs in a clone that somebody made (`git clone`, `make setup`), with that clone's environment. Nothing else
gets code to it; the data comes by DVC, where `data/raw.dvc` says that there is a newer version.
"""

import subprocess
from pathlib import Path

from weathervane.progress import say

ROOT = Path(__file__).parents[1]
LOCK = "requirements.lock"


def bring_up_to_date() -> dict[str, str]:
    """A pull step of prefect.yaml: fast-forward the clone where it follows a branch, and run in it.

    Returns:
        directory: the clone, where the flow runs.

    Raises:
        RuntimeError: the new code wants other packages than are installed.
    """
    if _git("rev-parse", "--abbrev-ref", "@{upstream}") is not None:
        before = _git("rev-parse", "HEAD")
        if _git("status", "--porcelain", "--untracked-files=no"):
            say(f"{ROOT} has changes that are not committed: left as it is, at {before}")
        elif _git("pull", "--quiet", "--ff-only") is None:
            say(f"{ROOT} could not be brought up to date by 'git pull --ff-only': left as it is, at {before}")
        elif before and _git("diff", "--quiet", before, "HEAD", "--", LOCK) is None:
            raise RuntimeError(
                f"{ROOT}: {LOCK} has changed since {before}: run 'make setup' there, then start its worker anew"
            )
    return {"directory": str(ROOT)}


def _git(*arguments: str) -> str | None:
    """What it prints; None where it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
