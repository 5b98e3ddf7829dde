"""Refusals that say nothing of the challenger: each stands as long as its reason does."""

from pathlib import Path

from tasks.tags import OLDER
from weathervane.params import load

UNJUDGED = "unjudged"  # tag of a version and of its retraining: the reason, one of these
OLDER_DATA, NEVER, NOT_COMPARED = "older data", "policy never", "not compared"


def stands(root: Path, tags: dict[str, str], older: bool) -> bool:
    """Whether the decision with these tags would be the same now.

    Args:
        root: the project's.
        tags: of the version or of the retraining's run.
        older: whether it is asked for another version of the data than today's.
    """
    reason = OLDER_DATA if OLDER in tags else tags.get(UNJUDGED)
    if reason == OLDER_DATA:
        return older
    if reason == NEVER:
        from tasks.gate import REGISTER
        from weathervane.gate import Register

        return load(Register, root / REGISTER).policy == "never"
    return reason != NOT_COMPARED
