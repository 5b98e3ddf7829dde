"""The table of docs/reliability.md: `python -m benchmarks.faults` writes what `make faults` and `make drills` found.

From tests/faults/rows.yaml, which says what each row is, and faults.json, where tests/rows.py notes what it came to.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.pages import page
from weathervane import params
from weathervane.files import replacing
from weathervane.progress import say
from weathervane.words import markdown_table

ROOT = Path(__file__).parents[1]
ROWS, RESULTS, PAGE = ROOT / "tests/faults/rows.yaml", ROOT / "benchmarks/faults.json", ROOT / "docs/reliability.md"
HEAD = ["row", "fault", "what is seen", "`make faults`", "`make drills`", "asked", "date", ""]


def rows() -> dict[int, dict[str, Any]]:
    """What each row is."""
    return {int(number): row for number, row in params.read(ROWS).items()}


def table() -> str:
    """All rows in Markdown, and on which machines they were run."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines, machines = list[list[str]](), set[str]()
    for number, row in rows().items():
        quick, full = (found[kind].get(str(number), []) for kind in ("quick", "full"))
        machines |= {one["machine"] for one in (*quick, *full)}
        dates = sorted({one["date"] for one in (*quick, *full)})
        asked = f"{row['asked']:,}" if "asked" in row else ""
        cells = [str(number), row["fault"], row["seen"], passed(quick), passed(full), asked, dates[-1] if dates else ""]
        lines.append([*cells, "; ".join(remarks(row, quick, full))])
    return f"{markdown_table(HEAD, lines)}\n\nPassed of trials. {'; '.join(sorted(machines))}; no GPU."


def passed(found: list[dict[str, Any]]) -> str:
    """Passed of trials, of all that injected a row."""
    trials = sum(one["trials"] for one in found)
    return f"{sum(one['passed'] for one in found):,} of {trials:,}" if trials else ""


def remarks(row: dict[str, Any], quick: list[dict[str, Any]], full: list[dict[str, Any]]) -> list[str]:
    """What has to be said of a row besides: its commands, its failures, its note."""
    told = [f"`{one['by']}`" for one in full if not one["by"].startswith("tests/")]
    if any(one["passed"] < one["trials"] for one in (*quick, *full)):
        told.append("**failed**")
    return [*told, *([row["note"]] if "note" in row else [])]


def main() -> None:
    """Write the page, and say what is short."""
    text = PAGE.read_text(encoding="utf-8")
    with replacing(PAGE) as file:
        file.write(page(text, {"faults": table()}))
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    for number, row in rows().items():
        most = max((sum(one["passed"] for one in found[kind].get(str(number), [])) for kind in found), default=0)
        if most < row.get("asked", 1):
            say(f"row {number}: {most:,} passed, {row.get('asked', 1):,} were asked for")


if __name__ == "__main__":
    main()
