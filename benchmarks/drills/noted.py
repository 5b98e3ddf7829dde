"""Where a drill's outcome goes: benchmarks/faults.json, from which docs/reliability.md is made."""

import os

from benchmarks.results import command
from tests.rows import note


def noted(row: int, trials: int, passed: int) -> None:
    """A row of tests/faults/rows.yaml was injected so often by this command; not noted where a test runs it."""
    if os.environ.get("PYTEST_CURRENT_TEST"):
        return
    note("full", row, command().replace("python -m drills.", "python -m benchmarks.drills."), trials, passed)
