"""The step `prepare`: the DVC stage of that name, run only if it is stale."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.data import prepare_and_record


@task(name="prepare", cache_policy=NO_CACHE)
def prepare(root: Path) -> str:
    """md5 of data/prepared afterwards."""
    return prepare_and_record(root)
