"""The table of scores on disk: gone on with after a kill, whole or not there at all.

While it is made, rows go to `<name>.part`, which begins with what they depend on.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import PIL

from weathervane.errors import InputError, in_brief
from weathervane.files import append, replacing, writable
from weathervane.layout import shown
from weathervane.listing import Listing, listing
from weathervane.progress import say
from weathervane.sources import names
from weathervane.traits import TRAITS

BLOCK = 4096  # rows in memory at a time
TEXTS = {"source", "path", "sha256", "class", "problem", "model", "data"}
OURS = '{"scores of": '


@dataclass(frozen=True)
class Origin:
    """What rows depend on besides the photograph."""

    source: str  # where the files are, absolute
    model: str  # the version, as in models:/weather/7
    data: str  # the version of the data that it was trained on
    classes: list[str]

    @property
    def columns(self) -> list[str]:
        """Of the finished table, in order; all but those of TEXTS are numbers."""
        numbers = ["probability", *(f"p_{name}" for name in self.classes), "width", "height", *TRAITS]
        return ["source", "path", "sha256", "class", *numbers, "problem", "model", "data", "seconds"]

    @property
    def head(self) -> str:
        """First line of the part; equal where rows can be taken over."""
        about = {"scores of": asdict(self), "pillow": PIL.__version__, "traits": TRAITS}
        return json.dumps(about) + "\n"


def part_of(out: Path) -> Path:
    """The file in which the rows of `out` are kept meanwhile."""
    return out.with_name(f"{out.name}.part")


def check_out(out: Path) -> None:
    """Before any work.

    Raises:
        InputError: another ending than those of WRITERS, or a place that cannot be written; or another's part.
    """
    if out.suffix not in WRITERS:
        raise InputError(f"--out {out}: the name has to end in {', '.join(WRITERS)}")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: the folder {out.parent} is not there")
    if not writable(out):
        raise InputError(f"--out {out}: cannot be written: name another file")
    if part_of(out).is_file():
        with open(part_of(out), "rb") as file:
            begun = file.readline(len(OURS))
            if begun and not begun.startswith(OURS.encode()):  # without a word of it, a full disk or a kill was first
                raise InputError(
                    f"{part_of(out)}: not begun by 'weathervane predict': move it away, or name another --out"
                )


class ScoreTable:
    """Rows that are being made for the file `out`, which `check_out` has seen."""

    def __init__(self, out: Path, origin: Origin) -> None:
        """Takes up what a killed run of the same origin left."""
        self.out, self.origin, self.part = out, origin, part_of(out)
        self._stamps: dict[str, str] = {}
        if self.part.is_file():
            with open(self.part, "rb") as file:
                whole = file.readline().decode()
                if whole == origin.head:
                    size = len(whole.encode())
                    for line in file:
                        if not line.endswith(b"\n"):  # torn by the kill
                            break
                        size += len(line)
                        row = json.loads(line)
                        self._stamps[row["path"]] = row["stamp"]
                    os.truncate(self.part, size)
                    return
            if whole:
                say(f"{self.part.name}: of another model, source or decoder: begun anew")
        self.part.unlink(missing_ok=True)
        append(self.part, origin.head)

    def seen(self, path: str, stamp: str) -> bool:
        """True if the file's row stands, and the file is as it was then."""
        return self._stamps.get(path) == stamp

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Rows that a kill does not take away any more."""
        append(self.part, "".join(f"{json.dumps(row)}\n" for row in rows))

    def finish(self, paths: list[str]) -> tuple[int, list[tuple[str, str]]]:
        """Write the table, a row a path; how many rows, and (path, problem) of those without a class.

        Names that are not UTF-8 are escaped. Of files of one name in an archive the last counts.
        """
        last = {json.loads(line)["path"]: number for number, line in enumerate(self._lines())}
        wanted = {last[path] for path in paths}  # a file that changed in between was scored again
        problems, count = list[tuple[str, str]](), 0
        with WRITERS[self.out.suffix](self.out, self.origin) as put:
            rows = (self._finished(json.loads(line)) for number, line in enumerate(self._lines()) if number in wanted)
            while block := list(islice(rows, BLOCK)):
                put(block)
                problems += [(row["path"], row["problem"]) for row in block if row["problem"]]
                count += len(block)
        self.part.unlink()
        return count, problems

    def _finished(self, row: dict[str, Any]) -> dict[str, Any]:
        same = {"model": self.origin.model, "data": self.origin.data, "source": _whole(self.origin.source)}
        texts = {name: shown(row[name]) for name in ("path", "problem")}
        return {name: row.get(name) for name in self.origin.columns} | same | texts

    def _lines(self) -> Iterator[str]:
        with open(self.part, encoding="utf-8") as file:
            next(file)
            yield from file


def _whole(path: str) -> str:
    """As it is, so that the photographs are found by it; only what no file of text holds is escaped."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return shown(path)
    return path


Put = Callable[[list[dict[str, Any]]], object]


@contextmanager
def _parquet(out: Path, origin: Origin) -> Iterator[Put]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string() if name in TEXTS else pa.float64()) for name in origin.columns])
    with replacing(out, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        yield lambda rows: writer.write_table(pa.Table.from_pylist(rows, schema))


@contextmanager
def _csv(out: Path, origin: Origin) -> Iterator[Put]:
    with replacing(out) as file:
        writer = csv.DictWriter(file, origin.columns, lineterminator="\n")
        writer.writeheader()
        yield writer.writerows


@contextmanager
def _jsonl(out: Path, origin: Origin) -> Iterator[Put]:
    with replacing(out) as file:
        yield lambda rows: file.writelines(f"{json.dumps(row)}\n" for row in rows)


WRITERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}


def is_table(text: str) -> bool:
    """True if a person names a finished table, not photographs."""
    try:
        table = Path(text).expanduser()
    except RuntimeError:  # a home that nobody has
        return False
    return table.suffix in WRITERS and table.is_file()


def photographs(text: str) -> Listing:
    """Those of a finished table, or those that `listing` understands.

    Raises:
        InputError: as of `listing`; or it is no table of `predict`'s, or its photographs are not there any more.
    """
    return _of_table(Path(text).expanduser()) if is_table(text) else listing(text)


def _of_table(table: Path) -> Listing:
    import pandas as pd

    columns = ["source", "path"]
    read = {
        ".parquet": partial(pd.read_parquet, columns=columns),
        ".csv": partial(pd.read_csv, usecols=columns, dtype=str, keep_default_na=False),  # a file may be called NA
        ".jsonl": partial(pd.read_json, lines=True, dtype=dict.fromkeys(columns, str)),
    }
    try:
        rows = read[table.suffix](table)
        (source,) = rows["source"].unique()
        if not source:
            raise ValueError("its source is blank")
        place, listed = Path(source), rows["path"].tolist()
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{table}: not a table that 'weathervane predict' wrote, or an empty one: {in_brief(error)}"
        raise InputError(told) from None
    if not place.exists():
        raise InputError(f"{table}: its photographs were in {place}, which is not there any more")
    there = {shown(name): name for name in names(place)}  # a table holds names as they can be read
    found = [there[name] for name in listed if name in there]
    if not found:
        raise InputError(f"{table}: none of its photographs is in {place} any more")
    return Listing(place, found)
