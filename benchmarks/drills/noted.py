"""Where a drill's outcome goes: benchmarks/faults.json, from which docs/reliability.md is made."""

from benchmarks.results import command
from tests.rows import note


def noted(row: int, trials: int, passed: int) -> None:
    """A row of tests/faults/rows.yaml was injected so often by this command."""
    note("full", row, command().replace("python -m drills.", "python -m benchmarks.drills."), trials, passed)
