"""The data steps without Prefect: the library's function, and DVC's record of what it left.

The command line runs ingest and prepare while its Prefect server is still starting; in the flow they then find nothing
to do. DVC is not imported where nothing changed.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

from tasks.data_versions import (
    between,
    find_damage,
    has_bytes,
    last_version,
    ledger_of,
    materialise,
    note_last,
    resolve,
)
from tasks.dvc_lock import md5, prepared_md5, raw_md5, stale_because, tracked_dataset
from tasks.dvc_repo import add, bring_up_to_date, fetch, fetch_version
from tasks.locks import DATA, lock
from weathervane import project
from weathervane.errors import InputError
from weathervane.files import move, replacing
from weathervane.fingerprint import sources
from weathervane.ingest import Ingest, finish, ingest, refuse_edits, unchanged
from weathervane.ledger import Ledger
from weathervane.params import load
from weathervane.prepare import Decode, Prepare, decoded_here, prepare
from weathervane.progress import say
from weathervane.store import changed

_brought_in: ContextVar[str] = ContextVar("the dataset that this command has brought in", default="")
INGEST, PREPARE = Path("params/ingest.yaml"), Path("params/prepare.yaml")


def dataset_of(root: Path) -> str:
    """The name of the project's dataset, and so of its registered model."""
    return load(Ingest, root / INGEST).dataset


def current(root: Path) -> bool:
    """True if the sources bring nothing new and data/prepared is that of data/raw."""
    params = load(Ingest, root / INGEST)
    if not unchanged(params, root):
        return False
    return stale_because(root, "prepare") is None and md5(root / project.RAW) == raw_md5(root)


@contextmanager
def brought_in(dataset: str) -> Iterator[None]:
    """Within it a flow is refused another dataset than this, which was brought in for it."""
    before = _brought_in.set(dataset)
    try:
        yield
    finally:
        _brought_in.reset(before)


def refuse_another(root: Path) -> None:
    """Somebody else's command may have edited params/ingest.yaml since this one brought its data in.

    Raises:
        InputError: it names another dataset by now.
    """
    if (mine := _brought_in.get()) not in ("", now := dataset_of(root)):
        raise InputError(f"{INGEST} now names '{now}', not '{mine}': somebody changed it meanwhile: run this again")


def ingest_and_record(root: Path) -> str:
    """Ingest, then `dvc add data/raw`; the md5 of data/raw.

    Raises:
        InputError: see `weathervane.ingest.ingest`, and data/raw is as it was before; or DVC cannot record what was
            taken in, and the next ingest does.
    """
    params = load(Ingest, root / INGEST)
    with lock(root, DATA):
        finish(root)  # an ingest that was killed at the end
        if unchanged(params, root) and md5(root / project.RAW) == raw_md5(root):
            say("ingest: nothing new")
            return str(raw_md5(root))
        refuse_edits(root)
        aside = _set_aside(root, params.dataset)
        try:
            _bring_back(root, params)
            started = time.monotonic()
            report = ingest(params, root)
            taken = time.monotonic()
        except BaseException:
            _restore(root, aside)
            raise
        if aside:
            shutil.rmtree(aside)
        version = add(root, str(project.RAW), {"dataset": params.dataset})
        say(f"ingest: {report}; {taken - started:.1f} s, and DVC {time.monotonic() - taken:.1f} s")
        for note in report.notes:
            say(f"ingest: {note}")
        return version


def prepared_version(root: Path, text: str) -> Path | None:
    """The folder of the version of the data that `text` names, prepared; None if it is today's own."""
    version = resolve(root, text)
    return None if _is_todays(root, version) else _prepared(root, version)


def _is_todays(root: Path, version: str) -> bool:
    """On record and on disk, which differ between a `git pull` and the `dvc checkout` after it."""
    return version == raw_md5(root) == md5(root / project.RAW)


@cache  # asked for each shard
def raw_copy(root: Path, version: str) -> Path:
    """The images of the version of this md5: data/raw itself, or a folder of their own; from the remote if need be."""
    if _is_todays(root, version):
        return root / project.RAW
    with lock(root, DATA):
        return _copy(root, version) / project.RAW


def _copy(root: Path, version: str) -> Path:
    if not has_bytes(root, version):
        fetch_version(root, version)
    return materialise(root, version)


def prepared_copy(root: Path, version: str) -> Path:
    """The version of this md5, prepared: data/prepared itself, or a folder of its own; from the remote if need be."""
    if _is_todays(root, version) and stale_because(root, "prepare") is None:
        return root / project.PREPARED
    return _prepared(root, version) / project.PREPARED


def _prepared(root: Path, version: str) -> Path:
    """Under .weathervane/versions."""
    with lock(root, DATA):
        home = _copy(root, version)
        params = load(Prepare, root / PREPARE)
        made, code = home / "prepared.json", (path.read_bytes() for path in sources("weathervane.prepare"))
        made_with = f"{params.model_dump_json()} Pillow {installed('pillow')}"
        key = hashlib.sha256(b"\0".join([made_with.encode(), *code])).hexdigest()
        intact = made.is_file() and made.read_text(encoding="utf-8") == key and not changed(home / project.PREPARED)
        if not intact:
            say(f"prepare: data version {version}")
            prepare(params, home)
            with replacing(made) as file:
                file.write(key)
        return home


def prepare_and_record(root: Path, decode: Decode = decoded_here) -> str:
    """Run the stage `prepare` if it is stale; the md5 of data/prepared."""
    params = load(Prepare, root / PREPARE)
    with lock(root, DATA):
        why = bring_up_to_date(root, "prepare", lambda: prepare(params, root, decode))
        say(f"prepare: done ({why})" if why else "prepare: nothing to do")
        return prepared_md5(root)


def report_and_record(root: Path) -> Path:
    """Run the stage `report` if it is stale; the report's path."""
    from weathervane.report import REPORT, report

    with lock(root, DATA):
        bring_up_to_date(root, "report", lambda: report(root))
        return root / project.PREPARED / REPORT


def _set_aside(root: Path, dataset: str) -> Path | None:
    """Move another dataset's data/raw out of the way, once DVC's cache holds every byte of it."""
    raw = root / project.RAW
    held = Ledger.read(raw).dataset
    if held in ("", dataset):
        return None
    kept = add(root, str(project.RAW), {"dataset": held})
    note_last(root, held, kept)
    say(f"ingest: the dataset '{held}' stays in DVC's cache as {kept}")
    aside = root / project.WORK / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    move(raw, aside)
    return aside


def _restore(root: Path, aside: Path | None) -> None:
    """Put the dataset that was set aside back, unless the new one is complete: then the next start moves it in."""
    if aside and not (root / project.READY).exists():
        shutil.rmtree(root / project.RAW, ignore_errors=True)
        move(aside, root / project.RAW)


def _bring_back(root: Path, params: Ingest) -> None:
    """Bring back data/raw where it is missing: in a fresh clone, when the project returns to a dataset that it had, or
    when git has brought another version.

    Its ledger decides who is in test, so it must come back. Rendered skies are the exception: they are made
    again, to the same bytes.
    """
    raw = root / project.RAW
    tracked = tracked_dataset(root) == params.dataset
    version = raw_md5(root) if tracked else last_version(root, params.dataset)
    if version is None:
        return
    if (root / project.LEDGER).is_file():
        if tracked:
            _catch_up(root, params, version)
        return
    if version == raw_md5(root) and fetch(root, str(project.RAW)):
        say(f"ingest: data/raw {version} is back")
        return
    if damage := find_damage(root, version):
        raise InputError(damage)
    if has_bytes(root, version):
        move(materialise(root, version) / project.RAW, raw)
        say(f"ingest: '{params.dataset}' goes on from its last version, {version}; --dataset NAME starts another")
        return
    _refuse_lost(params, version)


def _catch_up(root: Path, params: Ingest, version: str) -> None:
    """Bring data/raw up to the version that data/raw.dvc names, where it lacks images of it: `git pull` has brought it.

    What a killed ingest took in beyond that version stays; DVC has not recorded it yet.

    Raises:
        InputError: that version cannot be had, or what is there instead would be lost.
    """
    raw = root / project.RAW
    if ledger_of(root, version) is None:
        if md5(raw) == version:  # a cache that was emptied
            return
        fetch_version(root, version)
    named = ledger_of(root, version)
    if named is None:
        _refuse_lost(params, version)
        return
    if not between(named, Ledger.read(raw)).removed:
        return
    held = str(md5(raw))
    if not has_bytes(root, held):
        raise InputError(
            f"data/raw holds images that DVC has not recorded, and data/raw.dvc names {version}, which has others: run "
            "'dvc checkout data/raw.dvc --force'; what is new in the sources is taken in again"
        )
    other, old = materialise(root, version) / project.RAW, root / project.WORK / "aside"
    shutil.rmtree(old, ignore_errors=True)
    move(raw, old)  # in one go: a ledger without its images would be taken for an edit
    move(other, raw)
    shutil.rmtree(old)
    say(f"ingest: data/raw is {version} now, which data/raw.dvc names; what was there stays in DVC's cache as {held}")


def _refuse_lost(params: Ingest, version: str) -> None:
    if any(source.kind != "synthetic" for source in params.sources):
        raise InputError(
            f"the last version of '{params.dataset}', {version}, is neither in DVC's cache nor in a remote: run 'dvc "
            "pull', or name the dataset otherwise (--dataset) to start anew, with new splits"
        )
