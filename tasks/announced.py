"""Which version of the data was last told of: to a retraining, as an event or because it looked itself."""

from pathlib import Path

from weathervane import project
from weathervane.files import replacing

FILE = project.WORK / "announced"


def announced(root: Path) -> str | None:
    """Its md5; None where nothing was told yet."""
    path = root / FILE
    return path.read_text(encoding="utf-8") if path.is_file() else None


def announce(root: Path, md5: str) -> None:
    """From now on this version is known."""
    with replacing(root / FILE) as file:
        file.write(md5)
