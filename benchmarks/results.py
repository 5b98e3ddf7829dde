"""benchmarks/results.json: every figure with how often, how widely, where, by what command and when it was measured."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from weathervane.files import replacing
from weathervane.machine import machine
from weathervane.measures import wilson
from weathervane.progress import tabulate

RESULTS = Path(__file__).with_name("results.json")


def command() -> str:
    """How this process was started, without the paths of this machine."""
    package, name = Path(sys.argv[0]).parent.name, Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"{package}.{name}", *sys.argv[1:]])


@dataclass(frozen=True)
class Entry:
    """A figure: the median of `n` measurements, and their smallest and largest."""

    name: str
    value: float
    unit: str
    n: int
    spread: tuple[float, float]
    machine: str = field(default_factory=machine)
    command: str = field(default_factory=command)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d"))


def entry(name: str, measured: Sequence[float], unit: str) -> Entry:
    """The figure of these measurements, to four digits."""
    value, low, high = (float(f"{one:.4g}") for one in (median(measured), min(measured), max(measured)))
    return Entry(name, value, unit, len(measured), (low, high))


def share(name: str, found: Sequence[bool], unit: str) -> Entry:
    """The share of trials that came out so, with Wilson's interval of 95 %."""
    hits = sum(found)
    low, high = (round(end, 4) for end in wilson(hits, len(found)))
    return Entry(name, round(hits / len(found), 4), unit, len(found), (low, high))


def record(entries: list[Entry], device: str = "cpu") -> None:
    """Print the figures and write them to results.json, where they replace those of the same name and machine.

    A device other than the CPU is part of the machine.
    """
    if device != "cpu":
        import torch

        entries = [replace(one, machine=f"{one.machine}, {torch.cuda.get_device_name(device)}") for one in entries]
    rows = [[one.name, f"{one.value:,}", one.unit, str(one.n), *(f"{end:,}" for end in one.spread)] for one in entries]
    tabulate(["what", "median", "unit", "n", "from", "to"], rows)
    new = {(one.name, one.machine) for one in entries}
    held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    kept = [one for one in held if (one["name"], one["machine"]) not in new]
    with replacing(RESULTS) as file:
        json.dump(sorted([*kept, *map(asdict, entries)], key=lambda one: (one["machine"], one["name"])), file, indent=1)
        file.write("\n")
