"""`data/raw/ledger.csv`: one row an image, append-only, so that a split once given stays."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

from weathervane.errors import InputError
from weathervane.files import replacing

SYNTHETIC = "synthetic"  # title of the source whose images are rendered
FILES = ("dataset.json", "ledger.csv", "quarantine.csv")  # what a ledger is made of
LARGE_GROUP = 10  # more near-duplicates than this are worth a person's look


@dataclass(frozen=True, slots=True)
class Row:
    """An accepted image. `path` is relative to data/raw and made of the class and the sha256."""

    sha256: str
    label: str
    source: str
    name: str  # what the source called it
    first_seen: int  # number of the ingest that brought it, from 1: the same sources give the same ledger
    group: str  # near-duplicates share it: the sha256 (12 digits) of the member first seen
    split: str  # train, test, or excluded (ties several groups)
    fold: int  # 0..k-1 inside train; -1 elsewhere
    width: int
    height: int
    note: str
    path: str


@dataclass(frozen=True)
class Quarantined:
    """A file that cannot be used, and why; its bytes, if it was read at all, are kept under .weathervane/quarantine."""

    sha256: str
    source: str
    name: str
    first_seen: int
    reason: str
    detail: str


COLUMNS = ["class" if field.name == "label" else field.name for field in fields(Row)]
_cells, _bad_cells = (attrgetter(*(field.name for field in fields(kind))) for kind in (Row, Quarantined))


class Ledger:
    """The ledger of a folder such as data/raw, with its quarantine list and the dataset's name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset: str = ""
        self.ingests = 0
        self.rows: list[Row] = []
        self.quarantined: list[Quarantined] = []

    @classmethod
    def read(cls, folder: Path, at: Callable[[str], Path] | None = None) -> "Ledger":
        """The ledger that stands in `folder` (or `at` another path a file); an empty one where there is none yet."""
        ledger, at = cls(folder), at or folder.joinpath
        about = at("dataset.json")
        if not about.is_file() and not at("ledger.csv").is_file():
            return ledger
        try:
            content = json.loads(about.read_text(encoding="utf-8"))
            ledger.dataset, ledger.ingests = content["name"], content["ingests"]
            ledger.rows = [_row(line) for line in _lines(at("ledger.csv"))]
            ledger.quarantined = [
                Quarantined(**{**line, "first_seen": int(line["first_seen"])})  # type: ignore[arg-type]
                for line in _lines(at("quarantine.csv"))
            ]
        except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
            raise InputError(
                f"{folder}: the ledger is damaged ({error}): bring it back with 'dvc checkout {folder}.dvc --force'"
            ) from None
        return ledger

    def write(self) -> None:
        """Each file replaced whole; the ledger last, because it is what makes images count."""
        columns = [field.name for field in fields(Quarantined)]
        _write(self.folder / "quarantine.csv", columns, map(_bad_cells, self.quarantined))
        with replacing(self.folder / "dataset.json") as file:
            json.dump({"name": self.dataset, "ingests": self.ingests}, file)
            file.write("\n")
        _write(self.folder / "ledger.csv", COLUMNS, map(_cells, self.rows))

    def counts(self) -> Counter[str]:
        """Images a class."""
        return Counter(row.label for row in self.rows)


def _lines(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _row(line: dict[str, str]) -> Row:
    numbers = {key: int(line[key]) for key in ("first_seen", "fold", "width", "height")}
    return Row(**{**{("label" if k == "class" else k): v for k, v in line.items()}, **numbers})  # type: ignore[arg-type]


def _write(path: Path, columns: list[str], lines: Iterable[tuple[object, ...]]) -> None:
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)
