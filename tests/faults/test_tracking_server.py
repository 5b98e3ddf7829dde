"""A tracking server that dies while a variant trains: fault 20. Full: `python -m benchmarks.drills.tracking`."""

import shutil
from pathlib import Path

import pytest

from benchmarks.drills.kill import skies
from benchmarks.drills.tracking import killed


@pytest.mark.fault(20)
@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_costs_no_metric(
    tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a training and started again, the server has every epoch in the end, and each once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # back to what it was, in the end
    skies(tmp_path)
    shutil.copy(fresh_database, tmp_path / "server.db")
    assert killed(1, tmp_path, gone=0.0)[0] == 1
