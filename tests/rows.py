"""The table of faults: which test injects which row how often, and what came of it.

`@pytest.mark.fault(3, trials=2100)` says that a test injects row 3 of tests/faults/rows.yaml so often; once without
`trials`. With `drilled=20` it is run so many times in a drill, and its fixture `again` counts them.
`pytest -m fault --faults quick` (make faults) notes in benchmarks/faults.json what each row came to.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "benchmarks/faults.json"
FULL = os.environ.get("WEATHERVANE_DRILL") == "full"
KINDS = ("quick", "full")


def often(quick: int, full: int) -> int:
    """How often a test injects its fault: more in a drill."""
    return full if FULL else quick


@dataclass
class Tally:
    """What a row came to in a file: trials and those that passed, of which tests, and what was skipped and why."""

    trials: int = 0
    passed: int = 0
    tests: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)


class Collector:
    """Hears of every test at its end, wherever it ran."""

    def __init__(self, kind: str) -> None:
        self.kind, self.found = kind, defaultdict[tuple[int, str], Tally](Tally)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the test's call; of one that never came to that, why."""
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        for row, trials in (value for name, value in report.user_properties if name == "fault"):
            file, _, name = re.split(r"[\[@]", report.nodeid)[0].partition("::")
            tally = self.found[row, file]
            if report.skipped:
                why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                tally.skipped.add(f"{name}: {why.removeprefix('Skipped: ')}")
                continue
            tally.trials += trials
            tally.passed += trials if report.passed else 0
            tally.tests.add(name)

    def pytest_sessionfinish(self) -> None:
        """Note it, file by file; of what was not asked for now, what is known stays."""
        for (row, file), tally in self.found.items():
            note(self.kind, row, file, tally.trials, tally.passed, sorted(tally.tests), sorted(tally.skipped))


def note(
    kind: str, row: int, by: str, trials: int, passed: int, tests: Sequence[str] = (), skipped: Sequence[str] = ()
) -> None:
    """Write what a row came to into benchmarks/faults.json, in place of what the same command or file found before.

    Args:
        kind: of KINDS.
        row: of tests/faults/rows.yaml.
        by: the command, or the file of the tests that are marked.
        trials: how often it was injected; passed: of them.
        tests: their names.
        skipped: tests that did not run, and why.
    """
    from weathervane.files import replacing
    from weathervane.machine import machine

    held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {one: {} for one in KINDS}
    found = {"by": by, "trials": trials, "passed": passed, "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    found |= {"machine": machine()} | ({"tests": list(tests)} if tests else {})
    found |= {"skipped": list(skipped)} if skipped else {}
    others = [one for one in held[kind].get(str(row), []) if one["by"] != by]
    held[kind][str(row)] = sorted([*others, found], key=lambda one: one["by"])
    ordered = {one: dict(sorted(held[one].items(), key=lambda item: int(item[0]))) for one in KINDS}
    with replacing(RESULTS) as file:
        file.write(json.dumps(ordered, indent=1) + "\n")
