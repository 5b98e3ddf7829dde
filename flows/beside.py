"""Two stores in one clone: `weathervane up` has one, and a command that is not told of it looks at another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weathervane import owner, project
from weathervane.errors import InputError
from weathervane.files import replacing

NOTE = project.SERVERS / "up.addresses"  # who is at work, and what other commands have to be told


@contextmanager
def noted(root: Path, exports: str) -> Iterator[None]:
    """While servers are up: where a command of this clone finds that they are."""
    note = root / NOTE
    with replacing(note) as file:
        file.write(f"{owner.me()}\n{exports}\n")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def hint() -> str:
    """What to tell a person whose command is about to look at mlflow.db while servers are up in this clone; else ""."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    with suppress(InputError, OSError, ValueError):
        who, exports = (project.root() / NOTE).read_text(encoding="utf-8").splitlines()
        if not owner.gone(who):
            return f"this looks at mlflow.db; for what 'weathervane up' has, first: {exports}"
    return ""
