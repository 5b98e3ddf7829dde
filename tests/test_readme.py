"""What the first page says is there, and works."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from benchmarks import results
from benchmarks.tables import PAGES as TABLED
from benchmarks.tables import bench_table, headlines, written
from flows.cli import _spread, app, main

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tree_is_the_repository() -> None:
    """Every path of the README's tree exists, and every package and tracked top-level folder stands in it."""
    block = next(b for b in re.findall(r"^```\w*\n(.*?)^```", README, re.S | re.M) if b.startswith("flows/"))
    named, parent = [], ""
    for line in block.splitlines():
        name = line.split()[0]
        parent = name if not line.startswith(" ") else parent
        named.append(name if not line.startswith(" ") else parent + name)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []
    here = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert here - {"tests/"} <= set(named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of the pages leads to a file."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_commands_are_understood() -> None:
    """Every `weathervane` command on the pages parses: its sub-command and all of its options exist."""
    command = typer.main.get_command(app)
    seen = 0
    for page in PAGES:
        for line in re.findall(r"^weathervane ([^#\n`]+)", page.read_text(encoding="utf-8"), re.M):
            found, arguments = command, _spread(shlex.split(line))
            while hasattr(found, "commands"):
                found = found.commands[arguments.pop(0)]
            found.make_context(found.name, arguments)
            seen += 1
    assert seen >= 8


def test_help_tells_each_command_in_a_whole_line() -> None:
    """On a terminal of 80 columns `--help` cuts none of the lines that say what a command is for."""
    waiting, seen = [typer.main.get_command(app)], 0
    while waiting:
        command = waiting.pop()
        for one in getattr(command, "commands", {}).values():
            assert not one.get_short_help_str(62).endswith("..."), one.name
            waiting.append(one)
            seen += 1
    assert seen >= 28


def test_the_command_alone_helps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`weathervane` without anything lists its commands, each once, under what it is for."""
    monkeypatch.setattr("sys.argv", ["weathervane"])
    with pytest.raises(SystemExit):
        main()
    said = "".join(capsys.readouterr())
    sections = dict(re.findall(r"^([A-Z][^\n]+):\n((?:  .+\n)+)", said, re.M))
    assert sections.keys() == {"Options", "Training", "Models", "Photographs without labels", "Data and runs"} | {
        "A team's servers"
    }
    listed = [line.split()[0] for lines in sections.values() for line in lines.splitlines()]
    assert sorted(listed) == sorted(["--version", "--help", *typer.main.get_command(app).commands])


def test_make_targets_exist() -> None:
    """Every `make` command on the pages names a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    asked = {word for page in PAGES for word in re.findall(r"^make (\w+)", page.read_text(encoding="utf-8"), re.M)}
    assert asked and asked <= targets


def test_a_figure_of_another_machine_stands_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured again, a figure replaces that of the same machine alone; a machine has its own table and column."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results.json")
    for where, value in (("one", 1.0), ("other", 2.0), ("one", 3.0)):
        results.record([replace(results.entry("startup_seconds", [value], "s"), machine=where)])
    held = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [(one["machine"], one["value"]) for one in held] == [("one", 3.0), ("other", 2.0)]
    assert bench_table(held).count("| what |") == 2
    assert "| one | other |" in headlines(held) and "| 3 (1) | 2 (1) |" in headlines(held)


def test_figures_are_those_of_the_record() -> None:
    """The tables of the pages and the heads of the variants' files are what `python -m benchmarks.tables` writes."""
    files = written()
    assert [path.name for path, text in files.items() if text != path.read_text(encoding="utf-8")] == []
    headed = [path for path in files if re.search(r"^# Measured: accuracy 0\.\d", files[path], re.MULTILINE)]
    marks = {"README.md": {"bench", "crossval"}, "docs/networks.md": {"crossval", "crossval pairs"}}
    marks |= {"docs/speed.md": {"bench, all"}}
    assert {page: set(re.findall(r"^<!-- (?!end)(.+) -->$", files[ROOT / page], re.M)) for page in TABLED} == marks
    assert len(headed) >= 8
