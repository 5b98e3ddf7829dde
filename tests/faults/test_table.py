"""The table of faults: no row without somebody who injects it, and none that says more than was found."""

import json
import re

from benchmarks.faults import PAGE, RESULTS, rows, table
from tests.conftest import ROOT

MARK = re.compile(r"pytest\.mark\.fault\((\d+)")
NOTED = re.compile(r"noted\((\d+)")


def owned() -> set[int]:
    """Rows that a test or a drill names."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    drills = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks/drills").glob("*.py"))
    return {int(row) for row in (*MARK.findall(tests), *NOTED.findall(drills))}


def test_every_row_has_an_owner() -> None:
    """Each row is injected by a test or a drill, and nothing is injected that is no row."""
    assert len(rows()) >= 57 and owned() == set(rows())


def test_the_page_says_what_was_found() -> None:
    """docs/reliability.md holds the table that the results give; those are of rows and tests that there are."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert {int(row) for kind in found.values() for row in kind} <= set(rows())
    noted = [
        (one["by"], name)
        for kind in found.values()
        for row in kind.values()
        for one in row
        for name in one.get("tests", [])
    ]
    assert [name for file, name in noted if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")] == []
    assert f"<!-- faults -->\n{table()}\n<!-- end -->" in PAGE.read_text(encoding="utf-8")


def test_a_row_that_fails_says_why() -> None:
    """A row that is not met stays in the table, with the reason."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    failed = {
        int(row)
        for kind in found.values()
        for row, ones in kind.items()
        for one in ones
        if one["passed"] < one["trials"]
    }
    assert all("note" in rows()[row] for row in failed)
