"""What may go, and its removal: `weathervane clean`.

Never what a champion or one that was needs, never what "nothing to do" is answered from, never what a running run works
with. Metrics and parameters stay: of a run go its artifacts and its logged models, and a tag says when.
"""

import os
import re
import shutil
import stat
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import Timeout
from pydantic import BeforeValidator

from tasks import tracking
from tasks.data_versions import has_bytes
from tasks.locks import BACKUP, DATA, REPRODUCE, champion_lock, lock, retrain_lock
from tasks.plan import make_plan, read_variants
from tasks.tags import CLEANED, PROMOTED, WAITING
from tasks.tracking_inventory import Inventory, Registered, RunRecord, inventory
from tasks.tracking_read import uri
from tasks.training_process import run_of
from weathervane import project, variant
from weathervane.errors import InputError, masked
from weathervane.open_files import held
from weathervane.params import Strict, check, load
from weathervane.progress import track

RETENTION = Path("params/retention.yaml")
UNITS = {"h": "hours", "d": "days", "w": "weeks"}
BEGUN = "begun "  # before the date in the tag, until the last byte is gone


def age(text: object) -> timedelta:
    """An age as people write it: 24h, 90d, 12w.

    Raises:
        ValueError: another form.
    """
    found = re.fullmatch(r"([0-9]{1,5})([hdw])", text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("the form is 24h, 90d or 12w")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


Age = Annotated[timedelta, BeforeValidator(age)]


class Retention(Strict):
    """params/retention.yaml."""

    results: Age
    quarantine: Age
    versions: Age
    leftovers: Age
    logs: Age


@dataclass(frozen=True)
class Removable:
    """Something that may go: what it is, and why it may, in words that many of its kind share; its bytes."""

    what: str
    why: str
    bytes: int
    target: Path | RunRecord | Registered


@dataclass
class Survey:
    """What may go; and of what is as old and stays, how many runs, by the reason."""

    removable: list[Removable] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)

    def targets(self, kind: type) -> list[Any]:
        """What may go of one kind: Path, RunRecord or Registered (a model version)."""
        return [one.target for one in self.removable if isinstance(one.target, kind)]


def limits(root: Path, older_than: str | None) -> Retention:
    """params/retention.yaml, or one age for everything.

    Raises:
        InputError: another form than 24h, 90d or 12w.
    """
    if older_than is None:
        return load(Retention, root / RETENTION)
    try:
        age(older_than)
    except ValueError as error:
        raise InputError(f"--older-than {older_than}: {error}") from None
    return check(Retention, dict.fromkeys(Retention.model_fields, older_than), "--older-than")


def survey(root: Path, older: Retention) -> Survey:
    """What may go now; nothing is changed. A local store is read without importing MLflow."""
    stock, now = inventory(root), time.time()
    found = _results(root, stock, older.results, now)
    at_work = [run for run in stock.runs.values() if run.status == "RUNNING"]
    for what, why, limit, paths in (
        ("quarantined files", "listed in data/raw/quarantine.csv", older.quarantine, _below(root / project.QUARANTINE)),
        ("data versions brought back", "DVC's cache has their bytes", older.versions, _versions(root, at_work)),
        ("leftovers", "of work that ended or was killed", older.leftovers, _leftovers(root, at_work)),
        ("logs", "of the local servers", older.logs, _logs(root)),
    ):
        for path in paths:
            size, changed = _measure(path)
            if changed < now - limit.total_seconds():
                found.removable.append(Removable(what, why, size, path))
    return found


def clean(root: Path, older: Retention) -> tuple[Survey, list[str]]:
    """Remove what may go; what was, and what could not be, in words. Waits for a retraining that runs in this clone.

    Killed in between, it leaves nothing half there that looks whole: versions go before their models, runs are marked
    before they are emptied, folders are renamed first. The next one goes on.
    """
    names = sorted({run.dataset for run in inventory(root).runs.values()})
    with ExitStack() as locks:
        locks.enter_context(retrain_lock(root))
        for name in names:
            locks.enter_context(champion_lock(root, name))
        locks.enter_context(lock(root, DATA))
        found = survey(root, older)
        busy = tuple(_at_work(root, locks))
        found.removable = [one for one in found.removable if not _inside(one.target, busy)]
        for path in found.targets(Path):
            _discard(root, path)
        _retire(root, found)
    failures = []
    for run in track(found.targets(RunRecord), "remove artifacts"):
        try:
            _empty(root, run)
            _mark(root, run)
        except Exception as error:  # whatever keeps artifacts raises what it likes
            failures.append(f"run {run.run_id}: {masked(' '.join(str(error).split()))[:300]}")
    return found, failures


def _results(root: Path, stock: Inventory, limit: timedelta, now: float) -> Survey:
    """Model versions and runs of one age: what needs them decides, then the age."""
    before, found = (now - limit.total_seconds()) * 1000, Survey()
    needed = _needed(root, stock)
    for version in stock.versions:
        if version.created >= before or version.run_id in needed or _was_champion(version, stock):
            needed.setdefault(version.run_id, f"of model version {version}")
        else:
            found.removable.append(Removable("model versions", "never were champion", 0, version))
    for run_id in list(needed):  # a retraining is read as a whole
        needed.setdefault(stock.runs[run_id].tags.get("mlflow.parentRunId", ""), needed[run_id])
    for run in stock.runs.values():
        if run.ended >= before or not run.tags.get(CLEANED, BEGUN).startswith(BEGUN):
            continue
        if run.run_id in needed:
            found.kept[needed[run.run_id]] += 1
            continue
        size = sum(_size(root, location) for location in (run.artifacts, *run.models.values()))
        if size or CLEANED in run.tags:
            what = "runs deleted in MLflow" if run.deleted else f"artifacts of {run.tags['kind']} runs"
            why = "their artifacts" if run.deleted else "metrics and parameters stay"
            found.removable.append(Removable(what, why, size, run))
    return found


def _needed(root: Path, stock: Inventory) -> dict[str, str]:
    """Runs that are at work or that a retraining would build on, by id, and what for."""
    children: dict[str, list[str]] = defaultdict(list)
    for run in stock.runs.values():
        children[run.tags.get("mlflow.parentRunId", "")].append(run.run_id)
    there = [run for run in stock.runs.values() if not run.deleted]
    needed = {run.run_id: "at work" for run in there if run.status == "RUNNING"}
    retrainings = [run for run in there if run.tags["kind"] == "retraining"]
    settled = {run.dataset: run for run in retrainings if run.status == "FINISHED" and "decision" in run.tags}
    for run in [*settled.values(), *(run for run in there if run.status == "RUNNING")]:
        why = "at work" if run.status == "RUNNING" else f"of the last settled retraining of {run.dataset}"
        for run_id in (run.run_id, *children[run.run_id], *run.tags.get("reused_runs", "").split()):
            needed.setdefault(run_id, why)
    variants = read_variants(root, variant.names(root), [])
    try:
        standing = [candidate.run for candidate in make_plan(root, variants, seed=0).candidates]
    except InputError:  # no data is prepared here: nothing can stand on it
        standing = []
    needed |= {run.run_id: "what 'nothing to do' rests on" for run in standing if run and run.run_id not in needed}
    return {run_id: why for run_id, why in needed.items() if run_id in stock.runs}


def _was_champion(version: Registered, stock: Inventory) -> bool:
    """True for a champion, now or ever, for what waits to be one, and for what people registered or named."""
    by_hand = bool(version.aliases) or version.name != stock.runs[version.run_id].dataset
    return by_hand or version.moved or version.tags.get("decision") in (PROMOTED, WAITING)


def _size(root: Path, location: str) -> int:
    """Bytes of the artifacts at a location."""
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        return _measure(Path(url2pathname(parts.path) if parts.scheme else location))[0]
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(location, tracking_uri=uri(root))

    def below(folder: str | None) -> int:
        infos = repository.list_artifacts(folder)
        return sum(below(info.path) if info.is_dir else info.file_size or 0 for info in infos)

    return below(None)


def _retire(root: Path, found: Survey) -> None:
    """Before a byte goes: no version leads to it any more, and its run says so."""
    versions, runs = found.targets(Registered), found.targets(RunRecord)
    if not versions and not runs:
        return
    from mlflow.exceptions import MlflowException

    try:
        for version in versions:
            tracking.client(root).delete_model_version(version.name, version.version)
        for run in runs:
            if CLEANED not in run.tags:
                _mark(root, run, BEGUN)
    except MlflowException as error:
        raise InputError(f"{uri(root)}: {error}: run it again: it goes on from there") from None


def _mark(root: Path, run: RunRecord, begun: str = "") -> None:
    if not run.deleted:  # MLflow writes no tag on one that is
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        tracking.log(root, run.run_id, tags={CLEANED: f"{begun}{today}"})


def _empty(root: Path, run: RunRecord) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    for model, location in run.models.items():
        get_artifact_repository(location, tracking_uri=uri(root)).delete_artifacts()
        tracking.client(root).delete_logged_model(model)
    get_artifact_repository(run.artifacts, tracking_uri=uri(root)).delete_artifacts()


def _versions(root: Path, at_work: list[RunRecord]) -> Iterator[Path]:
    """Materialised versions of the data that are not the last copy, and that nobody trains on."""
    in_use = {run.tags.get("data_md5") for run in at_work}
    for path in _below(root / project.VERSIONS):
        if f"{path.name}.dir" not in in_use and has_bytes(root, f"{path.name}.dir"):
            yield path


def _leftovers(root: Path, at_work: list[RunRecord]) -> Iterator[Path]:
    """Training folders of runs that ended; temporary folders, which have a dash in their names, and those that `ingest`
    and `prepare` would go on from; halves of files."""
    busy = {run.run_id for run in at_work}
    yield from (path for path in _below(root / project.TRAINING) if run_of(path) not in busy)
    temporary = [
        *(root / project.WORK).glob("*-*"),
        *(root / project.WORK / name for name in ("ingest", "prepare", "aside")),
    ]
    yield from (path for path in temporary if path.is_dir())
    for folder in (root / project.WORK, root / project.DOWNLOADS):
        yield from folder.glob("*.part")
    yield from (path for path in _walk(root / project.RAW.parent) if path.suffix == ".part")
    yield from root.glob("mlflow.db.new*")


def _logs(root: Path) -> Iterator[Path]:
    """Of servers and workers that have ended."""
    return (path for path in _below(root / project.LOGS) if not held(path))


def _below(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _walk(folder: Path) -> Iterator[Path]:
    """All that a folder holds, however deep; what goes meanwhile is passed over."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in (*folders, *files))


def _measure(path: Path) -> tuple[int, float]:
    """Bytes of a file or of what a folder holds, and when the newest of it changed (seconds since 1970)."""
    size, changed = 0, 0.0
    for one in (path, *_walk(path)):
        with suppress(FileNotFoundError):
            status = one.lstat()
            size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            changed = max(changed, status.st_mtime)
    return size, changed


def _at_work(root: Path, locks: ExitStack) -> Iterator[str]:
    """Beginnings of the paths at which another process works; no other one begins to before `locks` end."""
    work, versions = root / project.WORK, root / project.VERSIONS
    places = {REPRODUCE: [f"{work}/reproduce-", f"{versions}/"], BACKUP: [f"{work}/backup-", f"{work}/restore-"]}
    for name, beginnings in places.items():
        try:
            locks.enter_context(lock(root, name, timeout=0))
        except Timeout:
            yield from beginnings


def _inside(target: Path | RunRecord | Registered, busy: tuple[str, ...]) -> bool:
    return isinstance(target, Path) and str(target).startswith(busy)


def _discard(root: Path, path: Path) -> None:
    """Remove a file or a folder: a kill leaves it whole, or a leftover that nobody takes for it."""
    if path.is_dir() and not path.is_symlink():
        gone = Path(tempfile.mkdtemp(prefix="gone-", dir=root / project.WORK))
        path.replace(gone / path.name)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)
