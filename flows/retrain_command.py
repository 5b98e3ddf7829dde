"""The command `weathervane retrain`: what is asked for, what is answered at once, and how the flow is run."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

from flows.edit_ingest import difference, edited
from flows.server import own_server
from flows.service import ending_as_by_ctrl_c
from flows.session import check_surroundings, going_on, prepare_here, ready
from tasks.data import (
    INGEST,
    brought_in,
    current,
    dataset_of,
    ingest_and_record,
    prepared_version,
)
from tasks.dvc_lock import stale_because
from tasks.gate import REGISTER
from tasks.locks import retrain_lock
from tasks.plan import Plan, check_sizes, make_plan, read_variants
from tasks.tracking_read import running, uri
from weathervane import project
from weathervane.errors import InputError, TrainingError
from weathervane.files import replacing
from weathervane.gate import Register
from weathervane.ingest import Ingest, unchanged
from weathervane.owner import gone
from weathervane.params import load
from weathervane.progress import say, tabulate
from weathervane.words import with_interval


@dataclass(frozen=True, kw_only=True)
class Request:
    """`weathervane retrain` and its options."""

    source: str | None = None
    dataset: str | None = None
    variants: list[str] | None = None
    changes: list[str] = field(default_factory=list)
    device: str = "auto"
    seed: int = 0
    data_version: str | None = None
    time_limit: float | None = None  # minutes
    processes: int = 1
    memory: float | None = None  # GB
    plan_only: bool = False


def run_retrain(request: Request) -> int:
    """Answer the request; the exit status.

    Raises:
        InputError: bad input; params/ingest.yaml and data/raw are as they were.
    """
    root = project.root()
    path = root / INGEST
    load(Ingest, path)
    before = path.read_text(encoding="utf-8")
    after = edited(path, root, request.source, request.dataset)
    variants = read_variants(root, request.variants, request.changes)
    check_sizes(root, variants)
    load(Register, root / REGISTER)
    if request.data_version and before != after:
        raise InputError("--data-version is of the dataset as it is: leave out --source and --dataset")
    home = prepared_version(root, request.data_version) if request.data_version else None
    if _known(root, request, home, before == after):
        plan = make_plan(root, variants, request.seed, home)
        if request.plan_only or (plan.nothing_to_do and not _any_dead(root)):
            say(describe(plan))
            return 0
    elif request.plan_only:
        say(f"{_first(root, request, before == after)}, all of {', '.join(variants)} would be trained")
        return 0
    check_surroundings(root, request.device)
    with going_on(), ExitStack() as stack:
        server = own_server(root, stack)
        if not request.data_version:
            with ending_as_by_ctrl_c(), retrain_lock(root):  # or a retraining at work would go on with other data
                _bring_in_data(root, path, request)
                stack.enter_context(brought_in(dataset_of(root)))
        ready(root, server, "flows.retrain")
        return _run_flow(request)


def _known(root: Path, request: Request, home: Path | None, as_edited: bool) -> bool:
    """Whether the images to train on are known already: those of another version, at `home`, or today's."""
    if not request.data_version:
        return as_edited and current(root)
    if home:
        return True
    if request.plan_only:
        return stale_because(root, "prepare") is None
    with retrain_lock(root):  # today's own, whatever the sources have by now
        return prepare_here(root)


def _first(root: Path, request: Request, as_edited: bool) -> str:
    """What would come before a training of images that are not known yet."""
    stale = stale_because(root, "prepare")
    if as_edited and stale and (request.data_version or unchanged(load(Ingest, root / INGEST), root)):
        return f"the images would be prepared first ({stale}); unless they come out as they were"
    return "the sources or the data have changed and would be read first; unless nothing new is found"


def _any_dead(root: Path) -> bool:
    """A retraining whose process is gone is for the flow to end, in Prefect as well."""
    return any(gone(run.tags["owner"]) for run in running(uri(root)) if "owner" in run.tags)


def describe(plan: Plan) -> str:
    """What a retraining would do, a line a variant."""
    lines = []
    for candidate in plan.candidates:
        if candidate.run:
            lines.append(f"{candidate.name}: unchanged since run {candidate.run.run_id}")
        else:
            about = (
                f", about {max(1, candidate.seconds):.0f} s" if candidate.seconds else ", no earlier run to time it by"
            )
            lines.append(f"{candidate.name}: would be trained ({candidate.why}{about})")
    head = f"{plan.dataset}, data {plan.data_md5}, seed {plan.seed}"
    lines += [plan.waiting] if plan.waiting else []
    return "\n".join([f"nothing to do ({head})" if plan.nothing_to_do else head, *lines])


def _bring_in_data(root: Path, path: Path, request: Request) -> None:
    """Ingest and prepare now, while the server boots; the flow's own steps then find nothing to do.

    The params are read again: others may have edited them while this waited for its turn. What fails leaves them as
    they are, or as they were before the edit that is made here.
    """
    before = path.read_text(encoding="utf-8")
    after = edited(path, root, request.source, request.dataset)
    try:
        if after != before:
            say(difference(before, after, str(INGEST)))
            with replacing(path) as file:
                file.write(after)
        ingest_and_record(root)
    except BaseException:
        if after != before and path.read_text(encoding="utf-8") == after:
            with replacing(path) as file:
                file.write(before)
            say(f"{INGEST} is as it was")
        raise
    prepare_here(root)


def _run_flow(request: Request) -> int:
    from flows.outcome import VariantsFailed
    from flows.retrain import retrain

    status = 0
    try:
        summary = retrain(
            variants=request.variants or [],
            changes=request.changes,
            device=request.device,
            seed=request.seed,
            data_version=request.data_version or "",
            time_limit=request.time_limit or 0,
            processes=request.processes,
            memory=request.memory or 0,
        )
    except VariantsFailed as error:
        summary, status = error.summary, 1
    except TrainingError as error:
        say(f"failed: {error}", logging.ERROR)
        return 1
    show(summary)
    return status


def show(summary: dict[str, Any]) -> None:
    """The closing table and what to do next."""
    rows = []
    for row in summary["rows"]:
        if "test_accuracy" in row:
            accuracy = with_interval(row["test_accuracy"], row["low"], row["high"])
            seconds = "reused" if row["reused"] else f"{row['seconds']:.0f}"
            decision = f"{row['decision']}: {row['why']}" if 0 < len(row["why"]) <= BRIEF else row["decision"]
            figures = [f"{row['macro_f1']:.3f}", f"{row['val_accuracy']:.3f}"]
            rows.append([row["variant"], accuracy, *figures, seconds, decision])
        else:
            rows.append([row["variant"], "failed", "", "", "", row["why"]])
    if rows:
        tabulate(["variant", "test accuracy (95 %)", "macro-F1", "validation", "seconds", "decision"], rows)
        note = " (rendered pictures: figures say nothing about photographs)" if summary["synthetic"] else ""
        say(f"{summary['dataset']}{note}: {summary['decision']}, {summary['why']}")
    say("next:" if which("weathervane") else "next, after 'source .venv/bin/activate':")
    best = summary.get("variant") or "cnn"
    told = [(c.format(best), what) for c, what in NEXT if "--source" not in c or summary.get("synthetic")]
    if version := summary.get("promotable"):
        told.insert(0, (f"weathervane promote {version} --why '...'", "make it champion all the same"))
    for command, what in told:
        say(f"  {command:<{max(len(c) for c, _ in told)}}  {what}")


BRIEF = 40  # characters of a reason that stand in the table; all of it stands below
NEXT = (
    ("weathervane ui", "compare the runs in MLflow's pages"),
    ("weathervane retrain --source FOLDER", "the same on your own photographs"),
    ("weathervane retrain --variants {} --set train.epochs=60", "one variant, other parameters"),
)
