"""A tracking server that dies while a variant trains: fault 20. Full: `python -m benchmarks.drills.tracking`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.fault(20)
@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_costs_no_metric() -> None:
    """Killed in the middle of a training and started again, the server has every epoch in the end, and each once."""
    command = [sys.executable, "-m", "benchmarks.drills.tracking", "--trials", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert "1 of 1 curves whole in MLflow" in done.stdout, done.stdout + done.stderr
