"""The step `report`: the data report, a DVC stage, logged to the retraining's run."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.data import report_and_record
from tasks.momentary import RETRY


@task(name="report", cache_policy=NO_CACHE, **RETRY)
def report(root: Path, run: str) -> None:
    """Bring data/prepared/report.html up to date and log it."""
    tracking.client(root).log_artifact(run, str(report_and_record(root)), "data")
