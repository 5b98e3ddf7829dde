"""The step `ingest`: take in what is new from the sources; DVC records data/raw."""

from pathlib import Path

from tasks.data import ingest_and_record
from tasks.step import step


@step(name="ingest")
def ingest(root: Path) -> str:
    """md5 of data/raw afterwards."""
    return ingest_and_record(root)
