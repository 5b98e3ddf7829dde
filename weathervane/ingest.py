"""Take in what is new: every file of the sources ends in exactly one list, and the ledger grows.

`python -m weathervane.ingest` does it by hand. Ingest is no DVC stage: inboxes are not functions of files.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Container
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from weathervane import images, project
from weathervane.duplicates import Signature, groups, pairs, signature
from weathervane.errors import InputError
from weathervane.files import replacing, sha256
from weathervane.layout import shown
from weathervane.ledger import LARGE_GROUP, Ledger, Quarantined, Row
from weathervane.parallel import in_order
from weathervane.params import Strict, load
from weathervane.progress import say, track
from weathervane.sources import Found, Local, Source
from weathervane.splits import EXCLUDED, Place, assign

SAME_ENDINGS = {".jpg": (".jpeg", ".jpe", ".mpo"), ".tif": (".tiff",)}


class Ingest(Strict):
    """params/ingest.yaml."""

    dataset: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
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


@dataclass
class Report:
    """What became of every file of the sources; the four lists add up to `files`."""

    files: int = 0
    accepted: list[Row] = field(default_factory=list)
    known: int = 0  # duplicates of images that the ledger held before
    duplicates: list[tuple[str, str]] = field(default_factory=list)  # (name, of which)
    quarantined: list[Quarantined] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    excluded: list[Row] = field(default_factory=list)  # accepted, but tie groups of different splits
    large_groups: dict[str, int] = field(default_factory=dict)  # near-duplicate groups of over 10, with their sizes

    def __str__(self) -> str:
        new = Counter(row.label for row in self.accepted)
        brought = ", ".join(f"{count} {label}" for label, count in sorted(new.items()))
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(q.reason for q in self.quarantined).items())
        return (
            f"{self.files:,} files: {len(self.accepted):,} new{f' ({brought})' if brought else ''}, "
            f"{self.known + len(self.duplicates):,} duplicates, {len(self.quarantined):,} quarantined"
            f"{f' ({reasons})' if reasons else ''}, {len(self.ignored):,} ignored"
        )


@dataclass(frozen=True)
class _Image:
    """An accepted newcomer, its bytes already on disk in the staging folder."""

    sha256: str
    label: str
    source: str
    name: str
    size: tuple[int, int]
    note: str
    ending: str
    signature: Signature


def state(params: Ingest, root: Path) -> str:
    """Equal as long as an ingest would find what the last one found: parameters, sources, ledger."""
    ledger = root / project.LEDGER
    parts = [params.model_dump_json(), *(source.state(root) for source in params.sources)]
    return hashlib.sha256("\n".join([*parts, sha256(ledger) if ledger.is_file() else ""]).encode()).hexdigest()


def unchanged(params: Ingest, root: Path) -> bool:
    """True if the sources and the ledger are as the last ingest left them, by names, sizes and times."""
    receipt = root / project.WORK / "ingest.json"
    return receipt.is_file() and json.loads(receipt.read_text()) == {"state": state(params, root)}


def ingest(params: Ingest, root: Path) -> Report:
    """Bring data/raw and its ledger up to date with the sources.

    New images are staged under .weathervane/ and moved in when all of them are known to be good; the
    ledger is written last. A killed ingest leaves the ledger as it was.

    Raises:
        InputError: a source is missing or harmful, more than `max_bad` of the files are bad, a class is
            empty or has fewer than `min_per_class` images, or data/raw holds another dataset.
    """
    ledger = Ledger.read(root / project.RAW)
    if ledger.rows and ledger.dataset != params.dataset:
        raise InputError(
            f"data/raw holds the dataset '{ledger.dataset}', params/ingest.yaml names '{params.dataset}': datasets "
            "never mix; 'weathervane retrain --source ...' sets the old one aside"
        )
    ledger.dataset = params.dataset
    staging = root / project.WORK / f"ingest-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        report = _sort_out(params, root, ledger, staging)
        _check(params, root, ledger, report)
        _move_in(root, ledger, report, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    with replacing(root / project.WORK / "ingest.json") as file:
        json.dump({"state": state(params, root)}, file)
    return report


def inspect(source: Source, root: Path) -> Report:
    """What an ingest of this source alone, into an empty dataset, would say of each file; nothing is changed."""
    params = Ingest(dataset="check", sources=[source], test_fraction=0.2, folds=5, seed=0, max_bad=1.0, min_per_class=3)
    with tempfile.TemporaryDirectory() as staging:
        return _sort_out(params, root, Ledger(root / project.RAW), Path(staging))


def _sort_out(params: Ingest, root: Path, ledger: Ledger, staging: Path) -> Report:
    """Every file into its list; bytes of the good and the bad go to `staging`, so memory stays flat."""
    report = Report()
    held = {row.sha256: (row.label, row.name) for row in ledger.rows}
    fresh: dict[str, _Image] = {}
    conflicts: set[str] = set()

    def quarantine(found: Found, title: str, digest: str, reason: images.Reason, detail: str) -> None:
        (staging / f"{digest}.bad").write_bytes(found.data)
        bad = Quarantined(digest, title, found.name, ledger.ingests + 1, reason, detail)
        report.quarantined.append(bad)

    for source in params.sources:
        files = track(source.files(root), f"ingest {source.title}", source.count(root))
        with closing(in_order(partial(_examine, held.keys()), files)) as examined:
            for original, digest, outcome in examined:
                found = replace(original, name=shown(original.name))
                report.files += 1
                if found.ignored:
                    report.ignored.append(found.name)
                elif isinstance(outcome, images.BadImage):
                    quarantine(found, source.title, digest, outcome.reason, outcome.detail)
                elif digest in held or digest in fresh:
                    label, name = held.get(digest) or (fresh[digest].label, fresh[digest].name)
                    if label != found.label:
                        conflicts.add(digest)
                        detail = f"the same picture is {label} as {name}"
                        quarantine(found, source.title, digest, "label conflict", detail)
                    elif digest in held:
                        report.known += 1
                    else:
                        report.duplicates.append((found.name, name))
                else:
                    assert found.label is not None and outcome is not None
                    size, note, ending, mark = outcome
                    (staging / digest).write_bytes(found.data)
                    fresh[digest] = _Image(digest, found.label, source.title, found.name, size, note, ending, mark)
    for digest in sorted(conflicts & fresh.keys()):
        image = fresh.pop(digest)
        found = Found(image.name, data=(staging / digest).read_bytes())
        quarantine(found, image.source, digest, "label conflict", "the same picture stands under two classes")
    bad = len(report.quarantined)
    if bad > params.max_bad * (report.files - len(report.ignored)):
        worst = "; ".join(f"{q.name!r}: {q.reason} ({q.detail})" for q in report.quarantined[:3])
        raise InputError(
            f"{bad} of {report.files:,} files are bad, more than max_bad: {params.max_bad} in params/ingest.yaml "
            f"allows; nothing was taken in. First: {worst}"
        )
    report.accepted = _place(params, ledger, list(fresh.values()), _signatures(root, ledger))
    report.excluded = [row for row in report.accepted if row.split == EXCLUDED]
    sizes = Counter(row.group for row in (*ledger.rows, *report.accepted))
    report.large_groups = {group: size for group, size in sizes.items() if size > LARGE_GROUP}
    return report


_Outcome = images.BadImage | tuple[tuple[int, int], str, str, Signature]


def _examine(held: Container[str], found: Found) -> tuple[Found, str, _Outcome | None]:
    """Decode a newcomer whole (a header alone proves nothing), small, and take its signature."""
    digest = hashlib.sha256(found.data).hexdigest()
    if found.ignored or digest in held:
        return found, digest, None
    if found.reason:
        return found, digest, images.BadImage(found.reason, found.detail)
    try:
        image = images.open_image(found.data)
        size, ending, notes = image.size, images.ENDINGS[str(image.format)], images.notes(image)
        named = Path(found.name).suffix.lower()
        if named not in (ending, *SAME_ENDINGS.get(ending, ())):
            notes.insert(0, f"{image.format} named {named or 'without an ending'}")
        return found, digest, (size, "; ".join(notes), ending, _signature(image))
    except images.BadImage as bad:
        return found, digest, bad


def _signature(image: Image.Image) -> Signature:
    image.draft(None, (256, 256))  # the smallest scale that gives the groups of full decoding
    return signature(images.upright_rgb(image))


def _signatures(root: Path, ledger: Ledger) -> list[Signature]:
    """Signatures of the ledger's images, from a cache beside the work files or from their bytes."""
    cache = root / project.WORK / "signatures.npz"
    known: dict[str, Signature] = {}
    if cache.is_file():
        with np.load(cache) as held:
            known = {s: Signature(d, g) for s, d, g in zip(held["sha256"], held["dhash"], held["grey"], strict=True)}

    def one(row: Row) -> Signature:
        if row.sha256 in known:
            return known[row.sha256]
        return _signature(images.open_image((root / project.RAW / row.path).read_bytes()))

    return list(in_order(one, ledger.rows))


def _place(params: Ingest, ledger: Ledger, newcomers: list[_Image], old: list[Signature]) -> list[Row]:
    """Groups and splits for the newcomers, in an order that only their bytes decide."""
    newcomers = sorted(newcomers, key=lambda image: image.sha256)
    marks = [*old, *(image.signature for image in newcomers)]
    if not newcomers:
        return []
    dhash = np.array([mark.dhash for mark in marks], dtype=np.uint64)
    grey = np.stack([mark.grey for mark in marks])
    component = groups(len(marks), pairs(dhash, grey, new_from=len(old)))

    tied: dict[int, list[Row]] = defaultdict(list)
    for row, number in zip(ledger.rows, component[: len(old)], strict=True):
        tied[int(number)].append(row)
    fresh: dict[int, list[_Image]] = defaultdict(list)
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
            sides = {Place(row.split, row.fold) for row in tied[number] if row.split != EXCLUDED}
            group, place, why = tied[number][0].group, Place(EXCLUDED, -1), "ties groups of different splits"
            if len(sides) == 1:
                place, why = sides.pop(), ""
        for image in members:
            note = "; ".join(filter(None, (image.note, why)))
            path = f"{image.label}/{image.sha256[:20]}{image.ending}"
            seen = ledger.ingests + 1
            rows.append(
                Row(
                    image.sha256,
                    image.label,
                    image.source,
                    image.name,
                    seen,
                    group,
                    *place,
                    *image.size,
                    note,
                    path,
                )
            )
    return sorted(rows, key=lambda row: (row.label, row.sha256))


def _check(params: Ingest, root: Path, ledger: Ledger, report: Report) -> None:
    counts = ledger.counts() + Counter(row.label for row in report.accepted)
    for source in params.sources:
        if isinstance(source, Local) and (empty := source.empty_folder(root)):
            raise InputError(f"{source.path}: the class folder '{empty}' is empty: fill it or remove it")
    if len(counts) < 2:
        seen = f"only the class '{next(iter(counts))}'" if counts else "no image at all"
        raise InputError(f"{', '.join(s.title for s in params.sources)}: {seen}: at least 2 classes are needed")
    label, fewest = min(counts.items(), key=lambda item: (item[1], item[0]))
    if fewest < params.min_per_class:
        raise InputError(
            f"class '{label}' has {fewest} images, at least {params.min_per_class} are needed "
            "(min_per_class in params/ingest.yaml)"
        )


def _move_in(root: Path, ledger: Ledger, report: Report, staging: Path) -> None:
    before = {(bad.sha256, bad.name) for bad in ledger.quarantined}
    refused = [bad for bad in report.quarantined if (bad.sha256, bad.name) not in before]
    if not (report.accepted or refused):
        return
    for row in report.accepted:
        target = root / project.RAW / row.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / row.sha256).replace(target)
    for bad in refused:
        aside = staging / f"{bad.sha256}.bad"
        if aside.is_file():
            _thumbnail(aside.read_bytes(), root / project.RAW / "quarantine" / f"{bad.sha256}.jpg")
            (root / project.QUARANTINE).mkdir(parents=True, exist_ok=True)
            aside.replace(root / project.QUARANTINE / bad.sha256)
    ledger.rows += report.accepted
    ledger.quarantined += refused
    ledger.ingests += 1
    ledger.write()


def _thumbnail(data: bytes, path: Path) -> None:
    """What can be seen of a quarantined file, for the report; nothing where nothing can."""
    try:
        pixels = images.decode(data, 96)
    except images.BadImage:
        return
    with replacing(path, "wb") as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=80)


def main() -> None:
    """Ingest by hand, with params/ingest.yaml of the project that the working folder is in."""
    root = project.root()
    say(str(ingest(load(Ingest, root / "params/ingest.yaml"), root)))


if __name__ == "__main__":
    main()
