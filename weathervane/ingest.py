"""Take in what is new: every file of the sources ends in exactly one list, and the ledger grows.

It is no DVC stage: inboxes are not functions of files.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import PIL
from PIL import Image
from pydantic import Field, field_validator

from weathervane import images, project
from weathervane.duplicates import Signature, components, stacked
from weathervane.errors import InputError
from weathervane.examine import Record
from weathervane.files import replacing, sha256, sync_folder
from weathervane.folds import VALIDATION
from weathervane.ledger import LARGE_GROUP, Ledger, Row
from weathervane.parallel import in_order
from weathervane.params import Strict
from weathervane.progress import track
from weathervane.sorting import Newcomer, Report, Sorting
from weathervane.sources import Local, Source, stamp
from weathervane.splits import EXCLUDED, TEST, TRAIN, Place, assign

SAME_ENDINGS = {".jpg": (".jpeg", ".jpe", ".mpo"), ".tif": (".tiff",)}


class Ingest(Strict):
    """params/ingest.yaml."""

    dataset: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="up to 63 of a-z, 0-9, _ and -, as in my-photos"
    )
    sources: list[Source] = Field(min_length=1)
    test_fraction: float = Field(gt=0, lt=0.9)
    folds: int = Field(ge=2, le=50)
    seed: int = Field(ge=0)
    max_bad: float = Field(ge=0, le=1)
    min_per_class: int = Field(ge=3)
    commit: Literal["never", "push"] = "never"

    @field_validator("sources")
    @classmethod
    def _once(cls, sources: list[Any]) -> list[Any]:
        if len({source.model_dump_json() for source in sources}) < len(sources):
            raise ValueError("the same source stands there twice")
        return sources


def unchanged(params: Ingest, root: Path) -> bool:
    """True if the sources and the ledger are as the last ingest left them, by names, sizes and times."""
    receipt = root / project.WORK / "ingest.json"
    if not receipt.is_file() or (root / project.READY).exists():
        return False
    return json.loads(receipt.read_text()) == {"state": _state(params, root, _sources(params, root))}


def _sources(params: Ingest, root: Path) -> list[str]:
    return [source.state(root) for source in params.sources]


def _state(params: Ingest, root: Path, sources: list[str]) -> str:
    """Equal as long as an ingest would find what the last one found: parameters, sources, ledger."""
    ledger = root / project.LEDGER
    parts = [params.model_dump_json(), *sources, sha256(ledger) if ledger.is_file() else ""]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def ingest(params: Ingest, root: Path) -> Report:
    """Bring data/raw and its ledger up to date with the sources.

    What is new is staged in .weathervane/ingest by sha256, and what is known of it recorded in examined.sqlite beside
    it, so that a killed ingest goes on where it was. When all of it is known to be good, it becomes
    .weathervane/ingested in one rename: before that data/raw is as it was, and after it the next start completes it
    (`finish`). One ingest at a time.

    Raises:
        InputError: a source is missing or harmful, more than `max_bad` of the files are bad, a class is
            empty or has fewer than `min_per_class` images, data/raw holds another dataset or images without a
            ledger, or the disk is full.
    """
    finish(root)
    ledger = _ledger(root)
    if ledger.rows and ledger.dataset != params.dataset:
        raise InputError(
            f"data/raw holds the dataset '{ledger.dataset}', params/ingest.yaml names '{params.dataset}': datasets "
            "never mix; 'weathervane retrain --source ...' sets the old one aside"
        )
    ledger.dataset = params.dataset
    sources = _sources(params, root)  # before they are read: what arrives meanwhile is for the next ingest
    counts = [source.count(root) for source in params.sources]  # all are looked over before the first is read
    staging = root / project.STAGING
    staging.mkdir(parents=True, exist_ok=True)
    try:
        with Record(root / project.EXAMINED) as record:
            report = _sort_out(params, root, ledger, staging, record, counts)
        _check(params, root, ledger, report)
        _move_in(root, ledger, report, staging)
        # Written where a kill leaves it with the rest that the next ingest clears away.
        with replacing(staging / "receipt.json") as file:
            json.dump({"state": _state(params, root, sources)}, file)
        (staging / "receipt.json").replace(root / project.WORK / "ingest.json")
    except Exception:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    shutil.rmtree(staging)
    return report


def finish(root: Path) -> None:
    """Put what a finished ingest left in .weathervane/ingested into its place; killed, it goes on next time."""
    ready = root / project.READY
    last = ready / project.LEDGER  # it is what makes images count
    for parent, _, names in os.walk(ready):
        folder = root / Path(parent).relative_to(ready)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if Path(parent, name) != last:
                shutil.move(Path(parent, name), folder / name)
        sync_folder(folder)
    if last.is_file():
        shutil.move(last, root / project.LEDGER)
        sync_folder(root / project.RAW)
    if ready.is_dir():
        shutil.rmtree(ready)


def _ledger(root: Path) -> Ledger:
    raw = root / project.RAW
    if not (root / project.LEDGER).is_file() and any(path.is_file() for path in raw.rglob("*")):
        raise InputError(
            f"{project.RAW} holds files but no ledger.csv: bring it back with 'dvc checkout data/raw.dvc --force', or "
            "remove the folder to start anew, with new splits"
        )
    return Ledger.read(raw)


def refuse_edits(root: Path) -> None:
    """Images of the ledger must be the bytes that were taken in; one is hashed when its size or time is another.

    Raises:
        InputError: some were changed or removed in place, or there are images and no ledger.
    """
    raw = root / project.RAW
    edited = []
    with Record(root / project.EXAMINED) as record:
        for row in _ledger(root).rows:
            path = raw / row.path
            digest = record.sha256(str(path), stamp(path)) if path.is_file() else ""
            if digest is None:
                digest = sha256(path)
                record.saw(str(path), stamp(path), digest)
            if digest != row.sha256:
                edited.append(row.path)
    if edited:
        raise InputError(
            f"data/raw/{edited[0]}{f' and {len(edited) - 1} more' if edited[1:] else ''}: not the bytes that were "
            "taken in: images never change in place; run 'dvc checkout data/raw.dvc --force' to have them back"
        )


@contextmanager
def borrowed(root: Path) -> Iterator[Record]:
    """A record that knows what the project's does, which stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / project.EXAMINED.name
        with suppress(FileNotFoundError):
            shutil.copyfile(root / project.EXAMINED, copy)
        with Record(copy) as record:
            yield record


def inspect(source: Source, params: Ingest, root: Path, ledger: Ledger, record: Record) -> tuple[Report, str]:
    """What an ingest of this source alone, into the ledger's dataset, would say of each file, and why it would take
    nothing in ("" if it would); nothing is changed."""
    params = params.model_copy(update={"sources": [source]})
    report = _sort_out(params, root, ledger, None, record, [source.count(root)])
    try:
        _check(params, root, ledger, report)
    except InputError as error:
        return report, str(error)
    return report, ""


def _sort_out(
    params: Ingest, root: Path, ledger: Ledger, staging: Path | None, record: Record, counts: list[int]
) -> Report:
    """Every file of the sources into its list, and a place for each that is new; its bytes are put into `staging`."""
    sorting = Sorting(ledger, staging, record)
    for source, count in zip(params.sources, counts, strict=True):
        files = track(source.files(root, sorting.known), f"ingest {source.title}", count)
        with closing(in_order(sorting.examine, files)) as examined:
            for found, digest, outcome in examined:
                sorting.sort(source.title, found, digest, outcome)
    report = sorting.ended()
    if sorting.fresh:
        report.accepted = _place(params, ledger, list(sorting.fresh.values()), _signatures(root, ledger, record))
        held = ledger.counts()
        report.new_classes = sorted({row.label for row in report.accepted} - held.keys()) if held else []
    report.decoded = record.looks
    sizes = Counter(row.group for row in (*ledger.rows, *report.accepted))
    report.large_groups = {group: size for group, size in sizes.items() if size > LARGE_GROUP}
    return report


def _signatures(root: Path, ledger: Ledger, record: Record) -> list[Signature]:
    """Signatures of the ledger's images, from the record, or from their bytes where it lacks them."""

    def one(row: Row) -> Signature:
        if (outcome := record.outcome(row.sha256)) is None:
            path = root / project.RAW / row.path
            if not path.is_file():
                raise InputError(f"data/raw/{row.path} is missing: 'dvc checkout data/raw.dvc --force' brings it back")
            outcome = record.look(row.sha256, path.read_bytes())
        if isinstance(outcome, images.BadImage):
            raise InputError(
                f"data/raw/{row.path}: {outcome}: bring it back with 'dvc checkout data/raw.dvc --force'; where it is "
                f"whole, Pillow {PIL.__version__} refuses what an earlier one read"
            )
        return outcome.signature

    return list(in_order(one, ledger.rows))


def _place(params: Ingest, ledger: Ledger, newcomers: list[Newcomer], old: list[Signature]) -> list[Row]:
    """Groups and splits for the newcomers, in an order that only their bytes decide."""
    newcomers = sorted(newcomers, key=lambda image: image.sha256)
    marks = [*old, *(image.picture.signature for image in newcomers)]
    component = components(*stacked(marks), new_from=len(old))

    tied: dict[int, list[Row]] = defaultdict(list)
    for row, number in zip(ledger.rows, component[: len(old)], strict=True):
        tied[int(number)].append(row)
    fresh: dict[int, list[Newcomer]] = defaultdict(list)
    for image, number in zip(newcomers, component[len(old) :], strict=True):
        fresh[int(number)].append(image)

    named = {number: members[0].sha256[:12] for number, members in fresh.items() if number not in tied}
    held: dict[Place, Counter[str]] = defaultdict(Counter)
    for row in ledger.rows:
        held[Place(row.split, row.fold)][row.label] += 1
    chosen = assign(
        {named[number]: [image.label for image in fresh[number]] for number in named},
        held,
        test_fraction=params.test_fraction,
        folds=params.folds,
        seed=params.seed,
    )
    rows = []
    for number, members in fresh.items():
        if number in named:
            group, place, why = named[number], chosen[named[number]], ""
        else:
            ties = {(row.group, Place(row.split, row.fold)) for row in tied[number] if row.split != EXCLUDED}
            group, place, why = tied[number][0].group, Place(EXCLUDED, -1), "ties several groups"
            if len(ties) == 1:
                (group, place), why = ties.pop(), ""
        rows += [_row(image, ledger.ingests + 1, group, place, why) for image in members]
    return sorted(rows, key=lambda row: (row.label, row.sha256))


def _row(image: Newcomer, ingest: int, group: str, place: Place, why: str) -> Row:
    """As the ledger keeps it; `why`: it is excluded."""
    ending = images.ENDINGS[image.picture.format]
    width, height = image.picture.size
    return Row(
        sha256=image.sha256,
        label=image.label,
        source=image.source,
        name=image.name,
        first_seen=ingest,
        group=group,
        split=place.split,
        fold=place.fold,
        width=width,
        height=height,
        note="; ".join(filter(None, (_misnamed(image, ending), image.picture.notes, why))),
        path=f"{image.label}/{image.sha256[:20]}{ending}",
    )


def _misnamed(image: Newcomer, ending: str) -> str:
    named = Path(image.name).suffix.lower()
    right = named in (ending, *SAME_ENDINGS.get(ending, ()))
    return "" if right else f"{image.picture.format} named {named or 'without an ending'}"


def _check(params: Ingest, root: Path, ledger: Ledger, report: Report) -> None:
    bad = len(report.quarantined)
    if bad > params.max_bad * (report.files - len(report.ignored)):
        worst = "; ".join(f"{q.name!r}: {q.reason} ({q.detail})" for q in report.quarantined[:3])
        raise InputError(
            f"{bad} of {report.files:,} files are bad, more than max_bad: {params.max_bad} in params/ingest.yaml "
            f"allows; nothing was taken in. First: {worst}"
        )
    counts = ledger.counts() + Counter(row.label for row in report.accepted)
    for source in params.sources:
        if isinstance(source, Local) and (empty := source.empty_folder(root)):
            raise InputError(f"{source.path}: the class folder '{empty}' is empty: fill it or remove it")
    if len(counts) < 2:
        seen = f"only the class '{next(iter(counts))}'" if counts else "no image at all"
        raise InputError(
            f"{', '.join(s.title for s in params.sources)}: {seen}: at least 2 classes are needed: a source is a "
            "folder of class folders, or one of files called <class><number>"
        )
    label, fewest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if fewest < params.min_per_class:
        raise InputError(
            f"class '{label}' has {fewest} images, at least {params.min_per_class} are needed "
            "(min_per_class in params/ingest.yaml)"
        )
    learnt = {row.label for row in (*ledger.rows, *report.accepted) if row.split == TRAIN and row.fold != VALIDATION}
    if unlearnt := sorted(counts.keys() - learnt):
        raise InputError(
            f"class '{unlearnt[0]}': its {counts[unlearnt[0]]} images are so few groups of near-duplicates that none "
            "is left to learn from beside those to test and validate on: add other photographs of it, or leave it out"
        )
    tested = {row.label for row in (*ledger.rows, *report.accepted) if row.split == TEST}
    if untested := sorted(counts.keys() - tested):
        raise InputError(
            f"class '{untested[0]}': none of its {counts[untested[0]]} images is there to test on: they are so few "
            f"groups of near-duplicates, or test_fraction: {params.test_fraction} in params/ingest.yaml is too small: "
            "add other photographs of it, or leave it out"
        )


def _move_in(root: Path, ledger: Ledger, report: Report, staging: Path) -> None:
    """Lay out what is new as it will stand in the project; one rename then makes it count."""
    before = {(bad.sha256, bad.name) for bad in ledger.quarantined}
    refused = [bad for bad in report.quarantined if (bad.sha256, bad.name) not in before]
    if not (report.accepted or refused):
        return
    layout = staging / "layout"
    raw = layout / project.RAW
    held = {row.sha256: root / project.RAW / row.path for row in ledger.rows}
    for digest in {bad.sha256 for bad in refused}:
        bytes_at = held.get(digest, staging / digest)
        if bytes_at.is_file():
            data = bytes_at.read_bytes()
            _thumbnail(data, raw / "quarantine" / f"{digest}.jpg")
            with replacing(layout / project.QUARANTINE / digest, "wb", len(data)) as file:
                file.write(data)
    for row in report.accepted:
        target = raw / row.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / row.sha256).replace(target)
    ledger.folder = raw
    ledger.rows += report.accepted
    ledger.quarantined += refused
    ledger.ingests += 1
    ledger.write()
    if hasattr(os, "sync"):
        os.sync()  # once: to sync each of a hundred thousand files takes minutes
    layout.replace(root / project.READY)
    finish(root)


def _thumbnail(data: bytes, path: Path) -> None:
    """What can be seen of a quarantined file, for the report; nothing where nothing can."""
    try:
        pixels = images.decode(data, 96)
    except images.BadImage:
        return
    with replacing(path, "wb") as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=80)
