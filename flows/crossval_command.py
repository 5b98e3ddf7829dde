"""The command `weathervane crossval`: what is refused or answered at once, how the flow is run, and its table."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.server import own_server
from flows.service import ending_as_by_ctrl_c
from flows.session import check_surroundings, going_on, prepare_here, ready
from tasks.data import INGEST, brought_in, current, dataset_of, ingest_and_record
from tasks.locks import retrain_lock
from tasks.plan import check_sizes, finished_crossval, make_plan, read_variants
from weathervane import project
from weathervane.errors import InputError
from weathervane.files import replacing, writable
from weathervane.folds import Crossing
from weathervane.ingest import Ingest
from weathervane.params import check, load
from weathervane.progress import say, tabulate

WRITES = (".json", ".md")  # what `--out` may end with


@dataclass(frozen=True)
class Request:
    """`weathervane crossval` and its options."""

    variants: list[str] | None
    changes: list[str]
    folds: int
    share: float
    seed: int
    device: str
    out: Path | None


def run_crossval(request: Request) -> int:
    """Answer the request; the exit status.

    Raises:
        InputError: bad input; nothing was trained.
    """
    root = project.root()
    if request.out and request.out.suffix not in WRITES:
        raise InputError(f"--out {request.out}: the name of the table ends with {' or '.join(WRITES)}")
    if request.out and not writable(request.out):
        raise InputError(f"--out {request.out}: cannot be written: name another file")
    crossing = check(Crossing, {"folds": request.folds, "share": request.share}, "crossval")
    variants = read_variants(root, request.variants, request.changes)
    check_sizes(root, variants)
    load(Ingest, root / INGEST)
    if current(root):
        plan = make_plan(root, variants, request.seed, crossing=crossing)
        if finished := finished_crossval(root, plan):
            say(f"unchanged since run {finished.run_id}\n{finished.tags['mlflow.note.content']}")
            if request.out:
                from tasks.crossval import record_of

                write(record_of(root, finished.run_id), request.out)
            return 0
    check_surroundings(root, request.device)
    with going_on(), ExitStack() as stack:
        server = own_server(root, stack)
        with ending_as_by_ctrl_c(), retrain_lock(root):  # while the server boots; its own steps find nothing to do
            ingest_and_record(root)
            stack.enter_context(brought_in(dataset_of(root)))
            if prepare_here(root):
                make_plan(root, variants, request.seed, crossing=crossing)  # refuses what there are too few images for
        ready(root, server, "flows.crossval")
        return _run_flow(request)


def _run_flow(request: Request) -> int:
    from flows.crossval import crossval
    from flows.outcome import VariantsFailed

    status = 0
    try:
        record = crossval(
            variants=request.variants or [],
            changes=request.changes,
            folds=request.folds,
            share=request.share,
            seed=request.seed,
            device=request.device,
        )["record"]
    except VariantsFailed as error:
        record, status = error.summary, 1
    show(record)
    if request.out:
        write(record, request.out)
    return status


def show(record: dict[str, Any]) -> None:
    """The closing tables, and how they were measured."""
    from weathervane.crossval import HEAD, PAIR_HEAD, about, cells, pair_cells

    for head, lines in ((HEAD, map(cells, record["rows"])), (PAIR_HEAD, map(pair_cells, record["pairs"]))):
        if rows := list(lines):
            tabulate(head, rows)
    for name, why in record["failed"].items():
        say(f"{name}: failed: {why}")
    if record["rows"]:
        say(about(record))


def write(record: dict[str, Any], out: Path) -> None:
    """All of it as JSON, or its tables as Markdown."""
    from weathervane.crossval import markdown

    with replacing(out) as file:
        file.write(json.dumps(record, indent=1) + "\n" if out.suffix == ".json" else markdown(record) + "\n")
