"""Puts what was measured where people read it: README, docs/networks.md and the heads of the variants' files.

`python -m benchmarks.tables` writes benchmarks/crossval.json (from `weathervane crossval --out`) between the marks
`<!-- NAME -->` and `<!-- end -->` of the pages, and into the line "# Measured ..." of params/models/*.yaml.
`python -m benchmarks.tables FILE` takes a new record first.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weathervane.crossval import about, pairs_table, rows_table
from weathervane.files import replacing

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("crossval.json")
PAGES = ["README.md", "docs/networks.md"]
BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "crossval": lambda record: f"{rows_table(record)}\n\n{about(record)}",
    "crossval pairs": pairs_table,
}


def page(text: str, record: dict[str, Any]) -> str:
    """The page with its marked blocks made anew."""
    for name, block in BLOCKS.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if mark:
            _, end, after = rest.partition("<!-- end -->")
            text = "".join([before, mark, block(record), "\n", end, after])
    return text


def head(text: str, record: dict[str, Any], name: str) -> str:
    """A variant's file with its line of figures made anew; as it was, where the record has none."""
    line = next((measured(row, record) for row in record["rows"] if row["variant"] == name), None)
    return re.sub(r"^# Measured.*$", line, text, count=1, flags=re.MULTILINE) if line else text


def measured(row: dict[str, Any], record: dict[str, Any]) -> str:
    """A variant's figures in a line."""
    reached = f"accuracy {row['accuracy']:.3f} ({row['accuracy_low']:.3f}-{row['accuracy_high']:.3f})"
    return (
        f"# Measured: {reached} on {record['images']} photographs, {row['seconds']:.0f} s a fold of {record['folds']} "
        f"({row['machine']}; README)"
    )


def written(record: dict[str, Any]) -> dict[Path, str]:
    """Each file that holds figures, as it should be."""
    pages = {ROOT / name: page((ROOT / name).read_text(encoding="utf-8"), record) for name in PAGES}
    files = sorted((ROOT / "params/models").glob("*.yaml"))
    return pages | {file: head(file.read_text(encoding="utf-8"), record, file.stem) for file in files}


def main() -> None:
    """By hand, after a cross-validation."""
    if len(sys.argv) > 1:
        shutil.copyfile(sys.argv[1], RECORD)
    for path, text in written(json.loads(RECORD.read_text(encoding="utf-8"))).items():
        with replacing(path) as file:
            file.write(text)


if __name__ == "__main__":
    main()
