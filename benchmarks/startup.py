"""From the command to the first step of training, and what a retraining with nothing to do costs.

`python -m benchmarks.startup`, in a project of its own (rendered skies), against a Prefect server that is up; and
with one that the command starts, as where none is configured.
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import entry, record
from flows.server import LocalServer
from tests.conftest import copy_project
from tests.flows.conftest import WEATHERVANE, environment, smaller
from weathervane.progress import track

ONE = ["retrain", "--variants", "dnn", "--set", "train.epochs=1"]
STEPS = ("ingest", "dnn")  # whose beginning the flow says
PARTS = (
    "imports, until the flow begins",
    "data and plan, until the variant begins",
    "its process, until the first step",
)


def main(rounds: Annotated[int, typer.Option(min=1)] = 5) -> None:
    """Measure, print and record."""
    with tempfile.TemporaryDirectory() as folder, LocalServer.start(Path(folder) / "server.log") as server:
        root = smaller(copy_project(Path(folder) / "clone"))
        settings = environment(root, PREFECT_API_URL=server.url, WEATHERVANE_LOG="json")
        server.wait()
        run(root, settings, [str(WEATHERVANE), *ONE])
        starts = [start(root, settings, seed) for seed in track(range(1, rounds + 1), "start", rounds)]
        own = {name: value for name, value in settings.items() if name != "PREFECT_API_URL"}
        seeds = track(range(rounds + 1, 2 * rounds + 1), "start with a server", rounds)
        with_server = [sum(start(root, own, seed)) for seed in seeds]
        nothing, repro = [], []
        for _ in track(range(rounds), "nothing to do", rounds):
            nothing.append(run(root, settings, [str(WEATHERVANE), *ONE]))
            repro.append(run(root, settings, [sys.executable, "-m", "dvc", "repro", "--quiet"]))
    entries = [entry("startup_seconds", [sum(one) for one in starts], "s")]
    for place, part in enumerate(PARTS):
        entries.append(entry(f"startup: {part}", [one[place] for one in starts], "s"))
    entries.append(entry("startup: with a Prefect server of its own", with_server, "s"))
    entries += [entry("retrain with nothing to do", nothing, "s"), entry("dvc repro with nothing to do", repro, "s")]
    ratios = [a / b for a, b in zip(nothing, repro, strict=True)]
    record([*entries, entry("noop_vs_dvc_repro", ratios, "times")])


def run(root: Path, settings: dict[str, str], command: list[str]) -> float:
    """Seconds of a command that ends well."""
    began = time.perf_counter()
    subprocess.run(command, cwd=root, env=settings, check=True, capture_output=True)
    return time.perf_counter() - began


def start(root: Path, settings: dict[str, str], seed: int) -> list[float]:
    """Seconds of each of PARTS."""
    held = set((root / ".weathervane/training").glob("*/metrics.jsonl"))
    command, began = [str(WEATHERVANE), *ONE, "--seed", str(seed)], time.time()
    done = subprocess.run(command, cwd=root, env=settings, check=True, stdout=subprocess.PIPE, text=True)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    (path,) = set((root / ".weathervane/training").glob("*/metrics.jsonl")) - held
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    begins = [next(one["time"] for one in said if one["message"].startswith(f"{step}: started")) for step in STEPS]
    flow, variant = (datetime.fromisoformat(when).timestamp() for when in begins)
    marks = [began, flow, variant, first["time"] - first["metrics"]["seconds"]]
    return [after - before for before, after in pairwise(marks)]


if __name__ == "__main__":
    typer.run(main)
