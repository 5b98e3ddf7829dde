"""The photographs most worth a label, as a folder for a person to sort into classes."""

import csv
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tasks.answering import answering, named
from tasks.data import prepared_copy
from weathervane import images, project
from weathervane.errors import InputError
from weathervane.files import raise_if_no_room
from weathervane.ledger import Ledger
from weathervane.listing import Listing
from weathervane.progress import bar
from weathervane.scores import photographs
from weathervane.suggest import Pick, choose

if TYPE_CHECKING:
    from weathervane.model import Model
    from weathervane.score import Looked
    from weathervane.store import Store

TABLE = "suggested.csv"
SHEET = 60  # photographs on a contact sheet


@dataclass(frozen=True)
class Candidates:
    """Photographs that nobody labelled, without near-duplicates of each other or of the training data.

    Legend: N = photographs, D = features, K = classes. `known` are the features of what the model has learnt from.
    """

    looked: "list[Looked]"
    probabilities: np.ndarray
    features: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Suggested:
    """What came of it."""

    model: str
    files: int
    candidates: int
    picks: int

    def __str__(self) -> str:
        return f"{self.picks} of {self.files} photographs, of which {self.candidates} are new and no near-duplicates"


def suggest(root: Path, source: str, n: int, out: Path, what: str, device: str) -> Suggested:
    """Copy the `n` photographs most worth a label to the new folder `out`, with contact sheets and a table.

    Raises:
        InputError: nothing to choose from, no such model, its training data is gone, or `out` is in use.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is there already: name a new folder")
    found = photographs(source)
    version = named(root, what)
    from weathervane.store import Store

    answers = answering(root, version, device)
    held = {row.sha256 for row in Ledger.read(root / project.RAW).rows}
    there = _candidates(answers.model, Store(prepared_copy(root, answers.data)), found, held)
    picks = choose(there.probabilities, there.features, there.known, n)
    if not picks:
        raise InputError(f"{source}: nothing new to label there: all is labelled, nearly the same, or not readable")
    with _made(out) as folder:
        _fill(folder, answers.model, found, there, picks)
    return Suggested(answers.uri, len(found.names), len(there.looked), len(picks))


def _candidates(model: "Model", store: "Store", found: Listing, held: set[str]) -> Candidates:
    from weathervane.duplicates import groups, pairs, signature
    from weathervane.features import of_store
    from weathervane.monitor import learnt_from
    from weathervane.score import BATCH, score

    own = len(store.manifest["label"])
    marks = [signature(Image.fromarray(store.pixels(np.array([row]))[0])) for row in range(own)]
    fresh, parts = list["Looked"](), []
    with bar("suggest", len(found.names)) as done:
        for batch in score(model, found.readers(lambda path, stamp: False), 2 * BATCH):
            usable = [one for one in batch.looked if one.pixels is not None]
            new = np.array([one.sha256 not in held for one in usable], bool)
            fresh += [replace(one, pixels=None) for one in compress(usable, new)]
            parts.append((batch.probabilities[new], batch.features[new]))
            marks += [signature(Image.fromarray(one)) for one in batch.pixels[new]]
            done(len(batch.looked))
    alike = pairs(np.array([mark.dhash for mark in marks]), np.stack([mark.grey for mark in marks]), new_from=own)
    first = (groups(len(marks), alike) == np.arange(len(marks)))[own:]
    probabilities, features = (np.concatenate(part)[first] for part in zip(*parts, strict=True))
    known = of_store(model, store)[1][learnt_from(store)]
    return Candidates(list(compress(fresh, first)), probabilities, features, known)


@contextmanager
def _made(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` when it is complete."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.replace(out)
    except OSError as error:
        raise_if_no_room(error, out, 1)
        raise InputError(f"--out {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(folder: Path, model: "Model", found: Listing, there: Candidates, picks: list[Pick]) -> None:
    """The files, each under a name that says nothing of its class, the table, and the sheets."""
    from weathervane.pictures.photographs import sheet

    classes, wanted = model.spec.classes, {there.looked[pick.row].path: pick for pick in picks}
    rows, pixels = dict[Pick, dict[str, str]](), dict[Pick, np.ndarray]()
    for reader in replace(found, names=list(wanted)).readers(lambda path, stamp: False):
        one = reader()
        pick = wanted[one.name]
        ending, said = images.ENDINGS[str(images.open_image(one.data).format)], there.probabilities[pick.row]
        name = f"{picks.index(pick) + 1:03d}-{there.looked[pick.row].sha256[:12]}{ending}"
        (folder / name).write_bytes(one.data)
        pixels[pick] = images.decode(one.data, model.spec.decode_size)
        rows[pick] = {"file": name, "path": one.name, "why": pick.why, "class": classes[said.argmax()]}
        rows[pick] |= {f"p_{label}": f"{p:.4f}" for label, p in zip(classes, said, strict=True)}
    with open(folder / TABLE, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, list(rows[picks[0]]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[pick] for pick in picks)
    for first in range(0, len(picks), SHEET):
        shown = picks[first : first + SHEET]
        captions = [
            [(f"{number}: {pick.why}", ""), (f"{rows[pick]['class']}?", rows[pick]["class"])]
            for number, pick in enumerate(shown, start=first + 1)
        ]
        heading = f"{first + 1} to {first + len(shown)} of {len(picks)} photographs worth a label, and the model's word"
        target = folder / f"contact-sheet-{first // SHEET + 1}.png"
        sheet(np.stack([pixels[pick] for pick in shown]), captions, classes, heading, target)
