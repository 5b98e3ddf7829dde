"""The step `restore`: another version of the data than today's, brought back beside the work tree."""

from pathlib import Path

from tasks.data import prepared_version
from tasks.step import step


@step(name="restore")
def restore(root: Path, version: str) -> Path | None:
    """The prepared version's folder; None if it is today's."""
    return prepared_version(root, version)
