"""data/raw and data/prepared → data/prepared/report.html: the data, to be looked at. A pure function, a DVC stage.

`python -m weathervane.report` is what `dvc repro report` runs. The page, report.html.j2, needs nothing but itself.
A retraining's copy has a section more, on what its best model suspects; the models themselves are not known here.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from weathervane import images, project
from weathervane.errors import InputError
from weathervane.files import replacing
from weathervane.ledger import LARGE_GROUP, SYNTHETIC, Ledger, Quarantined, Row
from weathervane.pages import data_uri, rendered
from weathervane.progress import say
from weathervane.splits import EXCLUDED, TEST, TRAIN
from weathervane.store import MANIFEST, Store

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"
THUMBNAIL, QUALITY = 96, 80  # pixels a side; of JPEG
GROUPS, MEMBERS = 40, 24  # duplicate groups on the page, and pictures of each
SHEET, SHEETS = 48, 600  # pictures on a class's contact sheet, and on all of them together
OTHERS = 96  # pictures of any other kind
LINES = 200  # of the quarantine
SIZES = [step << octave for octave in range(20) for step in (16, 19, 23, 27)]  # pixels, four bins an octave
SHADES = list(range(0, 257, 8))


@dataclass(frozen=True)
class Card:
    """A picture with its caption; `src` is a data: URI, or empty where there is no picture."""

    src: str
    name: str
    label: str
    place: str
    title: str


@dataclass(frozen=True)
class Tally:
    """How many images of a class (or of all) stand where."""

    label: str
    folds: list[int]
    test: int
    excluded: int

    @property
    def train(self) -> int:
        """Images in all folds."""
        return sum(self.folds)

    @property
    def total(self) -> int:
        """Images in all places."""
        return self.train + self.test + self.excluded


@dataclass(frozen=True)
class Histogram:
    """Counts between neighbouring `edges`; `marks` are the edges to be named under the axis."""

    title: str
    counts: list[int]
    edges: list[int]
    marks: list[int]
    values: list[int]  # sorted

    @property
    def middle(self) -> int:
        """The median, a value that occurs."""
        return median_low(self.values)


@dataclass(frozen=True)
class Group:
    """Near-duplicates of each other: `size` images, of which some are shown."""

    name: str
    size: int
    classes: list[str]
    cards: list[Card]

    @property
    def large(self) -> bool:
        """True if it has more images than a group should."""
        return self.size > LARGE_GROUP


@dataclass(frozen=True)
class Suspects:
    """Labels suspected of being wrong: how many, (label, suggested, images) of each kind, the worst as pictures."""

    size: int
    kinds: list[tuple[str, str, int]]
    cards: list[Card]


@dataclass(frozen=True)
class Growth:
    """A class before the last ingest, and what that brought."""

    label: str
    before: int
    new: int


def report(root: Path) -> Path:
    """Write data/prepared/report.html and return its path; equal data give equal bytes.

    Raises:
        InputError: see `page`.
    """
    target = root / project.PREPARED / REPORT
    text = page(root)
    with replacing(target) as file:
        file.write(text)
    return target


def page(root: Path, suspects: "pd.DataFrame | None" = None) -> str:
    """The page as HTML; `suspects`, once a model exists, is the table that `weathervane.suspects` makes.

    Raises:
        InputError: nothing ingested or prepared yet, or data/prepared is not made of this data/raw.
    """
    raw = root / project.RAW
    ledger, store = Ledger.read(raw), Store(root / project.PREPARED)
    rows = ledger.rows
    if not rows or store.manifest["sha256"].tolist() != [row.sha256 for row in rows]:
        raise InputError(f"{project.PREPARED / MANIFEST} is not made of {project.LEDGER}: run 'dvc repro prepare'")

    def card(row: Row) -> Card:
        pixels = store.pixels(np.array([store.row_of[row.sha256]]))[0]
        place = f"train, fold {row.fold}" if row.split == TRAIN else row.split
        title = f"{row.name} ({row.source}), {row.width}×{row.height}" + (f", {row.note}" if row.note else "")
        return Card(_data_uri(Image.fromarray(pixels)), row.name, row.label, place, title)

    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row.group].append(row)
    several = {name: group for name, group in members.items() if len(group) > 1}
    new = [row for row in rows if row.first_seen == ledger.ingests]
    excluded = [row for row in rows if row.split == EXCLUDED]
    page = rendered(
        "report.html.j2",
        dataset=ledger.dataset,
        ingests=ledger.ingests,
        size=store.size,
        sources=Counter(row.source for row in rows).most_common(),
        synthetic=sum(row.source == SYNTHETIC for row in rows),
        tallies=_tallies(rows),
        sizes=_sizes(rows),
        shapes={"wide": sum(r.width > r.height for r in rows), "upright": sum(r.width < r.height for r in rows)},
        enlarged=sum(min(row.width, row.height) < store.size for row in rows),
        formats=Counter(Path(row.path).suffix for row in rows).most_common(),
        notes=Counter(note for row in rows for note in row.note.split("; ") if note).most_common(),
        brightness=_brightness(rows, store),
        groups=_groups(several, card),
        grouped=sum(map(len, several.values())),
        all_groups=len(several),
        mixed=sum(len({row.label for row in group}) > 1 for group in several.values()),
        large=sum(len(group) > LARGE_GROUP for group in several.values()),
        large_group=LARGE_GROUP,
        excluded=len(excluded),
        excluded_cards=[card(row) for row in _sample(excluded, OTHERS)],
        quarantined=len(ledger.quarantined),
        reasons=Counter(bad.reason for bad in ledger.quarantined).most_common(),
        bad=[(bad, _quarantined(bad, raw)) for bad in ledger.quarantined[-LINES:]],
        growth=_growth(rows, ledger.ingests),
        newcomers=[card(row) for row in _sample(new, OTHERS)] if ledger.ingests > 1 else [],
        new_bad=sum(bad.first_seen == ledger.ingests for bad in ledger.quarantined),
        suspects=None if suspects is None else _suspects(suspects, {row.sha256: row for row in rows}, card),
        sheets=_sheets(rows, card),
    )
    return page + "\n"


def _tallies(rows: Sequence[Row]) -> list[Tally]:
    """A line a class, in alphabetical order, and one for all of them."""
    count = Counter((row.label, row.split, row.fold) for row in rows)
    folds = range(1 + max(row.fold for row in rows))
    lines = []
    for label in sorted({row.label for row in rows}):
        inside = [count[label, TRAIN, fold] for fold in folds]
        lines.append(Tally(label, inside, count[label, TEST, -1], count[label, EXCLUDED, -1]))
    together = [sum(line.folds[fold] for line in lines) for fold in folds]
    everything = Tally("all", together, sum(line.test for line in lines), sum(line.excluded for line in lines))
    return [*lines, everything]


def _histogram(title: str, values: Sequence[int], edges: list[int], marks: list[int]) -> Histogram:
    counts = np.histogram(values, edges)[0].tolist()
    return Histogram(title, counts, edges, marks, sorted(values))


def _sizes(rows: Sequence[Row]) -> list[Histogram]:
    """Widths and heights, on one axis."""
    sides = [side for row in rows for side in (row.width, row.height)]
    octaves = SIZES[::4]
    first = 4 * (max(1, sum(mark <= min(sides) for mark in octaves)) - 1)
    last = 4 * sum(mark <= max(sides) for mark in octaves)
    edges = SIZES[first : last + 1]
    marks = edges[::4] if len(edges) > 12 else edges[::2]
    return [
        _histogram("width", [row.width for row in rows], edges, marks),
        _histogram("height", [row.height for row in rows], edges, marks),
    ]


def _brightness(rows: Sequence[Row], store: Store) -> list[Histogram]:
    """Mean luma (ITU-R BT.601) of the prepared pixels a class, in whole numbers: equal on every processor."""
    blocks = store.blocks(np.arange(len(rows)))
    sums = np.concatenate([some.sum(axis=1, dtype=np.uint32).sum(axis=1, dtype=np.int64) for some in blocks])
    luma = sums @ np.array([299, 587, 114]) // (1000 * store.size**2)
    values: dict[str, list[int]] = defaultdict(list)
    for row, value in zip(rows, luma.tolist(), strict=True):
        values[row.label].append(value)
    return [_histogram(label, values[label], SHADES, SHADES[::8]) for label in sorted(values)]


def _groups(several: dict[str, list[Row]], card: Callable[[Row], Card]) -> list[Group]:
    """The largest first. Those under several classes are there before others are, however small."""
    labels = {name: sorted({row.label for row in group}) for name, group in several.items()}
    by_size = sorted(several, key=lambda name: (-len(several[name]), -len(labels[name]), name))
    shown = set(sorted(by_size, key=lambda name: len(labels[name]) == 1)[:GROUPS])
    return [
        Group(name, len(several[name]), labels[name], [card(row) for row in several[name][:MEMBERS]])
        for name in by_size
        if name in shown
    ]


def _suspects(table: "pd.DataFrame", rows: dict[str, Row], card: Callable[[Row], Card]) -> Suspects:
    """The table's first images, each with the two classes and what speaks for them."""
    kinds = Counter(zip(table["label"], table["suggested"], strict=True)).most_common()
    cards = []
    for line in table.head(OTHERS).itertuples():
        told = f"{line.label} {100 * line.p_label:.0f}\N{NO-BREAK SPACE}%, "
        told += f"{line.suggested} {100 * line.p_suggested:.0f}\N{NO-BREAK SPACE}%"
        cards.append(replace(card(rows[line.sha256]), label=told))
    return Suspects(len(table), [(*kind, count) for kind, count in kinds], cards)


def _growth(rows: Sequence[Row], last: int) -> list[Growth]:
    new = Counter(row.label for row in rows if row.first_seen == last)
    now = Counter(row.label for row in rows)
    return [Growth(label, now[label] - new[label], new[label]) for label in sorted(now)]


def _sheets(rows: Sequence[Row], card: Callable[[Row], Card]) -> list[tuple[str, int, list[Card]]]:
    """Class, its number of images, and a sample of them."""
    of: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of[row.label].append(row)
    most = max(1, min(SHEET, SHEETS // len(of)))
    return [(label, len(of[label]), [card(row) for row in _sample(of[label], most)]) for label in sorted(of)]


def _sample(rows: Sequence[Row], most: int) -> list[Row]:
    """As good as random, and the same ones again: a hash decides."""
    return sorted(rows, key=lambda row: row.sha256)[:most]


def _quarantined(bad: Quarantined, raw: Path) -> str:
    """Its thumbnail as a data: URI, where ingest could make one."""
    path = raw / "quarantine" / f"{bad.sha256}.jpg"
    try:
        return _data_uri(images.upright_rgb(images.open_image(path.read_bytes()))) if path.is_file() else ""
    except images.BadImage:
        return ""


def _data_uri(image: Image.Image) -> str:
    image = image.copy()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return data_uri("jpeg", out.getvalue())


def main() -> None:
    """Report by hand, on the project that the working folder is in."""
    root = project.root()
    target = report(root)
    say(f"{target.relative_to(root)}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
