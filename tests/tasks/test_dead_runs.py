"""Runs whose process is gone; how they are ended by command is tests/flows/test_survival.py's."""

import shutil
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tasks import dead_runs, tracking
from tasks.tracking_read import running, uri
from weathervane.owner import me

pytestmark = pytest.mark.slow


def test_what_ended_while_it_was_looked_at_stays_as_it_ended(
    project: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was at work when runs were listed, and has finished since, is not ended as killed; one that is still
    called running by a process that is gone is."""
    shutil.copy(fresh_database, project)
    experiment, tags = tracking.experiment(project, "test"), {"kind": "retraining", "owner": me()}
    finished, killed = (tracking.start_run(project, experiment, "retrain", tags) for _ in range(2))
    listed = running(uri(project))
    tracking.end_run(project, finished)
    monkeypatch.setattr(dead_runs, "running", lambda _: listed)
    monkeypatch.setattr(dead_runs, "gone", lambda _: True)
    with SyncPrefectClient("http://127.0.0.1:1/api") as prefect:
        told = dead_runs._in_mlflow(project, prefect)
    assert len(told) == 1 and killed in told[0]
    client = tracking.client(project)
    assert [client.get_run(run).info.status for run in (finished, killed)] == ["FINISHED", "KILLED"]
    assert "failure" not in client.get_run(finished).data.tags
