"""The step `ingest`: take in what is new from the sources; DVC records data/raw."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.data import ingest_and_record


@task(name="ingest", cache_policy=NO_CACHE)
def ingest(root: Path) -> str:
    """md5 of data/raw afterwards."""
    return ingest_and_record(root)
