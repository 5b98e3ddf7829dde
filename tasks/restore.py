"""The step `restore`: another version of the data than today's, brought back beside the work tree."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.data import prepared_version


@task(name="restore", cache_policy=NO_CACHE)
def restore(root: Path, version: str) -> Path | None:
    """The prepared version's folder; None if it is today's."""
    return prepared_version(root, version)
