"""Watching: do photographs that are scored lately still look like the champion's training data?"""

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import tracking
from tasks.answering import answering, named
from tasks.data import prepared_copy
from tasks.shown import show
from tasks.tags import MONITORING
from tasks.tracking_read import page, uri
from weathervane import layout
from weathervane.drift import Judged, Monitor, judge
from weathervane.errors import InputError
from weathervane.listing import Listing
from weathervane.owner import me
from weathervane.params import check, read
from weathervane.progress import say
from weathervane.score_table import Origin, is_table, photographs
from weathervane.words import markdown_table

if TYPE_CHECKING:
    from weathervane.monitor import Lately

MONITOR = Path("params/monitor.yaml")


@dataclass(frozen=True)
class Seen:
    """What was seen, of whose model; the MLflow run has the report."""

    dataset: str
    model: str
    files: int
    unusable: int
    judged: Judged
    run_id: str


def asked(root: Path, source: str = "", days: float | None = None) -> Monitor:
    """params/monitor.yaml, with what a person asked for instead.

    Raises:
        InputError: a wrong value, or no source is named here or there.
    """
    given: dict[str, object] = {"source": source} if source else {}
    given |= {} if days is None else {"days": days}
    params = check(Monitor, read(root / MONITOR) | given, MONITOR)
    if not params.source:
        raise InputError(f"{MONITOR}: source: nothing to look at: name a folder, an archive or a table of predictions")
    return params


def monitor(root: Path, params: Monitor, what: str, device: str, flow_run: str = "") -> Seen:
    """Score what is in the source, compare, and log a run with the report, which says of what flow run it is.

    Raises:
        InputError: nothing to look at, no such model, or its training data is gone.
    """
    since = time.time()
    found = photographs(params.source)
    if not is_table(params.source):
        found = _lately(found, params.days)
    version = named(root, what)
    from weathervane.drift_report import write
    from weathervane.monitor import Lately, of_training
    from weathervane.score import score
    from weathervane.store import Store

    answers = answering(root, version, device)
    trained = of_training(answers.model, Store(prepared_copy(root, answers.data)))
    before, lately = trained.table, Lately(trained)
    for batch in score(answers.model, found, "monitor"):
        lately.add(batch)
    after = lately.table
    judged = judge(before, after, params)
    with tempfile.TemporaryDirectory() as folder:
        about = Origin(layout.shown(params.source), answers.uri, answers.data, answers.model.spec.classes)
        write(Path(folder), about, params, before, after, lately, judged)
        asked = {"source": about.source, "days": params.days, "model": answers.uri, "device": device}
        tags = {"data_md5": answers.data, "prefect_flow_run_id": flow_run}
        run = _open(root, version.name, judged, tags, since)
        _log(root, run, asked, lately, judged, Path(folder))
    show("monitor", version.name, f"{_note(judged)}\n\n{page(uri(root), run)}", judged.why)
    rest = lately.files - lately.unusable - len(after)
    say(f"monitor: {lately.files:,} files, {lately.unusable:,} unusable, {rest:,} learnt from or nearly the same")
    say(f"monitor: {judged.decision}: {judged.why}; {page(uri(root), run)}")
    return Seen(version.name, answers.uri, lately.files, lately.unusable, judged, run)


def _lately(found: Listing, days: float) -> Listing:
    """Of files that stand side by side, those that changed in so many days.

    Raises:
        InputError: there are none.
    """
    if not days or not found.side_by_side:
        return found
    since = time.time() - days * 86400
    names = [name for name in found.names if (path := found.place / name).exists() and path.stat().st_mtime >= since]
    if not names:
        raise InputError(f"{found.place}: no file there changed in the last {days:g} days: --days 0 takes all")
    return replace(found, names=names)


def _note(judged: Judged) -> str:
    """The verdict and what it rests on, in Markdown."""
    told = f"**{judged.decision}:** {judged.why}"
    if not judged.findings:
        return told
    head = ["watched", "difference", "p", "training data", "photographs", "drifted"]
    rows = [
        [one.name, f"{one.difference:.3f}", f"{one.p:.2g}", one.before, one.after, "yes" if one.drifted else "no"]
        for one in judged.findings
    ]
    return f"{told}\n\n{markdown_table(head, rows)}"


def _open(root: Path, dataset: str, judged: Judged, tags: dict[str, str], since: float) -> str:
    """A run of the dataset's experiment that began when the look did; its id."""
    tags |= {"kind": MONITORING, "dataset": dataset, "decision": judged.decision, "why": judged.why, "owner": me()}
    tags |= {tracking.NOTE: _note(judged)}
    name = time.strftime("monitor %Y-%m-%d %H:%M:%S")
    return tracking.start_run(root, tracking.experiment(root, dataset), name, tags, started=since)


def _log(root: Path, run: str, asked: dict[str, object], lately: "Lately", judged: Judged, folder: Path) -> None:
    """What was asked for, the report and the figures; the run closed."""
    try:
        tracking.client(root).log_artifacts(run, str(folder))
        if judged.findings:
            tracking.log_tables(root, run, {"findings.json": [asdict(one) for one in judged.findings]})
        counts = {"images/files": float(lately.files), "images/unusable": float(lately.unusable)}
        tracking.log(root, run, params=asked, metrics=judged.figures | counts)
    except BaseException:
        tracking.end_run(root, run, "FAILED")
        raise
    tracking.end_run(root, run)
