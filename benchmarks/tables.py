"""Puts what was measured where people read it: README, docs/networks.md, docs/speed.md and the heads of the variants'
files.

`python -m benchmarks.tables` writes crossval.json (of `weathervane crossval --out`) and results.json (of `make bench`)
between the marks `<!-- NAME -->` and `<!-- end -->` of the pages, the former also into the line "# Measured ..." of
params/models/*.yaml, and draws docs/bench.png. `python -m benchmarks.tables FILE` takes a new crossval record first.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.pages import page
from benchmarks.results import RESULTS
from weathervane.crossval import about, pairs_table, rows_table
from weathervane.files import replacing
from weathervane.words import markdown_table

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("crossval.json")
PICTURE = ROOT / "docs/bench.png"
PAGES = ["README.md", "docs/networks.md", "docs/speed.md"]
HEADLINES = (  # beginnings of names in results.json, in the README's order
    "cnn, speedup",
    "dnn, speedup",
    "data_speedup",
    "fit_efficiency",
    "predict_efficiency",
    "gpu_busy",
    "startup_seconds",
    "noop_vs_dvc_repro",
    "growth_level",
)
QUOTED = (  # the same of docs/speed.md
    "cnn, speedup",
    "dnn, speedup",
    "data_speedup",
    "fit_efficiency",
    "gpu_busy",
    "kernels' share",
    "recorded steps",
    "bfloat16",
    "compile",
    "recipe",
    "startup_seconds",
    "startup:",
    "noop_vs_dvc_repro",
    "growth_images_per_second",
    "growth_memory",
    "growth_level",
    "predict",
)


def blocks(record: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, str]:
    """Mark → what stands there."""
    return {
        "crossval": f"{rows_table(record)}\n\n{about(record | {'pairs': []})}",  # no p stands in this one
        "crossval pairs": pairs_table(record),
        "bench": headlines(results),
        "bench, all": bench_table(results),
    }


def headlines(results: list[dict[str, Any]]) -> str:
    """The headlines of results.json in Markdown, a line each and a column a machine."""
    entries = quoted(results, HEADLINES)
    where = machines(entries)
    lines = []
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for one in entries:
        rows.setdefault(re.sub(" on (cpu|cuda)$", "", one["name"]), {})[one["machine"]] = one
    for name, found in rows.items():
        cells = [_cell(found[machine]) if machine in found else "" for machine in where]
        some = next(iter(found.values()))
        told, module = some["unit"].partition(",")[0], some["command"].split()[2]
        lines.append([f"{name}, {told}", *cells, f"`{module}`"])
    return markdown_table(["what", *where, "`python -m`"], lines)


def _cell(one: dict[str, Any]) -> str:
    value, low, high = (f"{number:.3g}" for number in (one["value"], *one["spread"]))
    return f"{value} ({low}–{high}, {one['n']})" if one["n"] > 1 else f"{value} (1)"


def machines(entries: list[dict[str, Any]]) -> list[str]:
    """Where they were measured, those with a GPU last."""
    return sorted({one["machine"] for one in entries}, key=lambda name: (name.count(","), name))


def bench_table(results: list[dict[str, Any]]) -> str:
    """The quoted entries of results.json in Markdown, a table for each machine."""
    entries = quoted(results, QUOTED)
    return "\n\n".join(_table([one for one in entries if one["machine"] == name], name) for name in machines(entries))


def _table(entries: list[dict[str, Any]], where: str) -> str:
    lines = []
    for one in entries:
        low, high = one["spread"]
        cells = [one["name"], f"{one['value']:,g} {one['unit']}", f"{low:,g}–{high:,g}", str(one["n"])]
        lines.append([*cells, f"`{one['command']}`"])
    dates = sorted({one["date"] for one in entries})
    table = markdown_table(["what", "median", "range", "n", "command"], lines)
    return f"{table}\n\n{where}; {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."


def quoted(results: list[dict[str, Any]], starts: tuple[str, ...]) -> list[dict[str, Any]]:
    """The entries whose names begin so, in that order."""
    return [one for start in starts for one in results if one["name"].startswith(start)]


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


def written() -> dict[Path, str]:
    """Each file that holds figures, as it should be."""
    record, results = (json.loads(path.read_text(encoding="utf-8")) for path in (RECORD, RESULTS))
    found = blocks(record, results)
    pages = {ROOT / name: page((ROOT / name).read_text(encoding="utf-8"), found) for name in PAGES}
    files = sorted((ROOT / "params/models").glob("*.yaml"))
    return pages | {file: head(file.read_text(encoding="utf-8"), record, file.stem) for file in files}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """How many times as long everyone else takes, as bars with their range where there is one."""
    from matplotlib.figure import Figure

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in results:
        name, mark, _ = one["name"].partition(", speedup")
        if mark:
            groups.setdefault((one["machine"], name), []).append(one)
    rows, most = -(-len(groups) // 2), max(map(len, groups.values()))
    figure = Figure(figsize=(9, 3 * rows), layout="constrained")
    places = figure.subplots(rows, 2).flat
    for axes in places[len(groups) :]:
        axes.remove()
    for axes, ((machine, name), entries) in zip(places, groups.items(), strict=False):
        entries = sorted(entries, key=lambda one: one["value"])
        values = [one["value"] for one in entries]
        away = [
            [one["value"] - one["spread"][0] for one in entries],
            [one["spread"][1] - one["value"] for one in entries],
        ]
        axes.barh(
            [one["name"].split(" vs ")[1] for one in entries],
            values,
            xerr=away,
            color="#4878a8",
            height=0.6,
        )
        axes.set_ylim(-0.5, most - 0.5)  # bars of one height everywhere
        axes.axvline(1, color="black", linewidth=1)
        axes.set_title(f"{name}: time ÷ weathervane's\n{fill(machine, 48)}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """By hand, after a cross-validation or `make bench`."""
    if len(sys.argv) > 1:
        shutil.copyfile(sys.argv[1], RECORD)
    for path, text in written().items():
        with replacing(path) as file:
            file.write(text)
    draw(json.loads(RESULTS.read_text(encoding="utf-8")), PICTURE)


if __name__ == "__main__":
    main()
