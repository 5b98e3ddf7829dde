"""The step `prepare`: the DVC stage of that name, run only if it is stale."""

from pathlib import Path

from tasks.data import prepare_and_record
from tasks.step import step
from weathervane.prepare import Decode, decoded_here


@step(name="prepare")
def prepare(root: Path, decode: Decode | None = None) -> str:
    """md5 of data/prepared afterwards; `decode` brings the pixels, from other machines, say."""
    return prepare_and_record(root, decode or decoded_here)
