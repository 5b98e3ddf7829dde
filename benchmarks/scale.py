"""What grows with the number of images besides ingest, prepare and training: `python -m benchmarks.scale`.

The ledger's reading, DVC's record of data/raw with its first version and with one image more, and the answer "nothing
to do", in a project of its own. docs/scale.md draws its conclusions from these slopes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.data import generate
from benchmarks.results import Entry, entry, record
from tests.conftest import copy_project
from weathervane.params import load
from weathervane.progress import say, track

ROOT = Path(__file__).parents[1]
SIZES = (1_000, 10_000, 30_000)


def main(
    most: Annotated[int, typer.Option(help="images of the largest size")] = SIZES[-1],
    alone: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure, print and record."""
    if alone:
        say(json.dumps(measure(Path(alone))))
        return
    entries = list[Entry]()
    for size in track([size for size in SIZES if size <= most], "sizes"):
        with tempfile.TemporaryDirectory() as folder:
            root = project(Path(folder), size)
            command = [sys.executable, "-m", "benchmarks.scale", "--alone", str(root)]
            own = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, cwd=root, env=own, check=True, stdout=subprocess.PIPE, text=True)
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                entries.append(entry(f"scale, {size:,} images: {name}", [value * 1_000 / size], "s per 1,000"))
    record(entries)


def project(folder: Path, size: int) -> Path:
    """A clone of the project whose source is a folder of `size` images."""
    (folder / "clone").mkdir()
    root = copy_project(folder / "clone")
    generate(folder / "source", size)
    (root / "params/ingest.yaml").write_text(
        f"dataset: t\nsources: [{{kind: local, path: {folder / 'source'}}}]\ntest_fraction: 0.2\nfolds: 5\nseed: 0\n"
        "max_bad: 0.05\nmin_per_class: 3\ncommit: never\n"
    )
    return root


def measure(root: Path) -> dict[str, float]:
    """Seconds of each, once."""
    from dvc.repo import Repo  # noqa: F401, not to be counted

    from tasks.data import current, prepare_and_record
    from tasks.dvc_repo import add
    from weathervane.ingest import Ingest, ingest
    from weathervane.ledger import Ledger

    params, raw = load(Ingest, root / "params/ingest.yaml"), root / "data/raw"
    ingest(params, root)
    found = {"dvc add": seconds(lambda: add(root, "data/raw", {"dataset": "t"}))}
    found["ledger, read"] = seconds(lambda: Ledger.read(raw))
    first = root.parent / "source" / "a" / "0.jpg"
    (first.parent / "one-more.jpg").write_bytes(first.read_bytes()[:-2] + b"\0\xff\xd9")
    found["ingest, one image more"] = seconds(lambda: ingest(params, root))
    found["dvc add, one image more"] = seconds(lambda: add(root, "data/raw", {"dataset": "t"}))
    found["prepare, with DVC's record"] = seconds(lambda: prepare_and_record(root))
    assert current(root)
    return found | {"nothing to do": seconds(lambda: current(root))}


def seconds(work: Callable[[], object]) -> float:
    """Of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
