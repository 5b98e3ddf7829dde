"""Every file of the sources into exactly one list: new, duplicate, quarantined or ignored."""

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from weathervane import images
from weathervane.examine import Outcome, Picture, Record
from weathervane.files import raise_if_no_room, sha256
from weathervane.layout import called_text, class_name, shown
from weathervane.ledger import Ledger, Quarantined, Row
from weathervane.parallel import in_order
from weathervane.sources import Found
from weathervane.words import by_class, listed

SHOWN = 4  # names in a note
HEIF = (".heic", ".heif", ".avif")  # as telephones save photographs


@dataclass
class Report:
    """What became of every file of the sources; the four lists add up to `files`."""

    files: int = 0
    read: int = 0  # files whose bytes were read; the others are as they were
    decoded: int = 0
    accepted: list[Row] = field(default_factory=list)
    known: int = 0  # duplicates of images that the ledger held before
    duplicates: list[tuple[str, str]] = field(default_factory=list)  # (name, of which)
    quarantined: list[Quarantined] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    large_groups: dict[str, int] = field(default_factory=dict)  # near-duplicate groups of over 10, with their sizes
    new_classes: list[str] = field(default_factory=list)  # that a dataset which had images did not have

    def __str__(self) -> str:
        new = Counter(row.label for row in self.accepted)
        brought = by_class(new)
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(q.reason for q in self.quarantined).items())
        return (
            f"{self.files:,} files, {self.read:,} read, {self.decoded:,} decoded: "
            f"{len(self.accepted):,} new{f' ({brought})' if brought else ''}, "
            f"{self.known:,} known, {len(self.duplicates):,} duplicates, {len(self.quarantined):,} quarantined"
            f"{f' ({reasons})' if reasons else ''}, {len(self.ignored):,} ignored"
        )

    @property
    def notes(self) -> list[str]:
        """What is as nobody may have meant it, a line each."""
        places = [PurePosixPath(row.name).parts for row in self.accepted]
        above = sorted({parts[-3] for parts in places if len(parts) > 2})
        said = []
        if self.new_classes:
            said.append(f"classes that the dataset did not have: {listed(self.new_classes, SHOWN)}")
        if len(above) > 1:
            said.append(
                f"a photograph's own folder is its class; those above ({listed(above, SHOWN)}) tell nothing, and test "
                "images are chosen anew"
            )
        return said


@dataclass(frozen=True, slots=True)
class Newcomer:
    """An image that was not there before, its bytes already on disk in the staging folder."""

    sha256: str
    label: str
    source: str
    name: str
    picture: Picture


class Sorting:
    """What the files come to, one after another; bytes of the good and the bad go to `staging`, if
    there is one: memory stays flat."""

    def __init__(self, ledger: Ledger, staging: Path | None, record: Record) -> None:
        self.fresh: dict[str, Newcomer] = {}  # by sha256
        self._report, self._conflicts = Report(), set[str]()
        self._staging, self._record, self._number = staging, record, ledger.ingests + 1
        self._held = {row.sha256: (row.label, row.name) for row in ledger.rows}
        self._refused = {bad.sha256 for bad in ledger.quarantined}
        self._staged = _staged(staging) if staging else set()
        self._outcomes: dict[str, Outcome] = {}  # of what is `known` without being held

    def known(self, path: str, stamp: str) -> str | None:
        """The sha256 of a file that need not be read, since it has not changed and its bytes are where they belong."""
        digest = self._record.sha256(path, stamp)
        if digest is None or digest in self._held:
            return digest
        outcome = self._record.outcome(digest)
        settled = digest in self._refused and isinstance(outcome, images.BadImage)
        if outcome is None or not (settled or digest in self._staged):
            return None
        self._outcomes[digest] = outcome
        return digest

    def examine(self, found: Found) -> tuple[Found, str, Outcome | None]:
        """The file, its sha256, and what a look at it shows, where it needs one; usable from several threads."""
        digest = found.sha256 or hashlib.sha256(found.data).hexdigest()
        if found.ignored or digest in self._held:
            return found, digest, None
        if found.reason:
            return found, digest, images.BadImage(found.reason, found.detail)
        if not found.label or class_name(found.label) != found.label:  # folders and metrics are called by it
            return found, digest, images.BadImage("name not understood", f"{found.label!r} is no name of a class")
        if found.sha256:  # it was not read
            return found, digest, self._outcomes[digest]
        return found, digest, self._record.look(digest, found.data)

    def sort(self, source: str, found: Found, digest: str, outcome: Outcome | None) -> None:
        """Put an examined file of the source with this title into its list.

        Raises:
            InputError: no room for its bytes.
        """
        report, name = self._report, shown(found.name)
        report.files += 1
        report.read += bool(found.data)
        if self._staging and not (found.ignored or found.sha256 or digest in self._held):
            _stage(found.data, self._staging / digest)
        if found.stamp:
            self._record.saw(found.path, found.stamp, digest)
        if found.ignored or (called_text(name) and _no_picture(outcome)):
            report.ignored.append(name)
        elif isinstance(outcome, images.BadImage):
            heif = outcome.reason == "not an image" and Path(name).suffix.lower() in HEIF
            detail = "HEIC and AVIF are not read: convert it to JPEG" if heif else outcome.detail
            self._quarantine(name, source, digest, outcome.reason, detail)
        elif digest in self._held or digest in self.fresh:
            self._sort_copy(source, found, digest)
        else:
            assert found.label is not None and outcome is not None
            self.fresh[digest] = Newcomer(digest, found.label, source, name, outcome)

    def ended(self) -> Report:
        """The lists, when the last file is sorted; a picture that stands under two classes is good for neither."""
        for digest in sorted(self._conflicts & self.fresh.keys()):
            image = self.fresh.pop(digest)
            told = "the same picture stands under two classes"
            self._quarantine(image.name, image.source, digest, "label conflict", told)
        return self._report

    def _sort_copy(self, source: str, found: Found, digest: str) -> None:
        """A file with the very bytes of an earlier one."""
        name = shown(found.name)
        label, first = self._held.get(digest) or (self.fresh[digest].label, self.fresh[digest].name)
        if label != found.label:
            self._conflicts.add(digest)
            self._quarantine(name, source, digest, "label conflict", f"the same picture is labelled {label} as {first}")
        elif digest in self._held:
            self._report.known += 1
        else:
            self._report.duplicates.append((name, first))

    def _quarantine(self, name: str, source: str, digest: str, reason: images.Reason, detail: str) -> None:
        self._report.quarantined.append(Quarantined(digest, source, name, self._number, reason, shown(detail)))


def _no_picture(outcome: Outcome | None) -> bool:
    return isinstance(outcome, images.BadImage) and outcome.reason in ("empty", "not an image")


def _staged(staging: Path) -> set[str]:
    """What a killed ingest left, as far as the content is what the name says; the rest is removed."""
    names = [path.name for path in staging.iterdir()]
    whole = in_order(lambda name: (staging / name).is_file() and sha256(staging / name) == name, names)
    staged = {name for name, good in zip(names, whole, strict=True) if good}
    for name in names:
        if name not in staged:
            shutil.rmtree(staging / name) if (staging / name).is_dir() else (staging / name).unlink()
    return staged


def _stage(data: bytes, path: Path) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise_if_no_room(error, path, len(data))
        raise
