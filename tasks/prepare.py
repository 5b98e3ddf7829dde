"""The step `prepare`: the DVC stage of that name, run only if it is stale."""

from pathlib import Path

from tasks.data import prepare_and_record
from tasks.step import step


@step(name="prepare")
def prepare(root: Path) -> str:
    """md5 of data/prepared afterwards."""
    return prepare_and_record(root)
