"""The photographs most worth a label, as a folder for a person to sort into classes."""

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.answering import answering, named
from tasks.data import prepared_copy
from weathervane import images, project
from weathervane.errors import InputError
from weathervane.files import raise_if_no_room
from weathervane.ledger import Ledger
from weathervane.listing import Listing
from weathervane.score_table import photographs
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


def suggest(root: Path, source: str, n: int, out: Path, what: str, device: str) -> str:
    """Copy the `n` photographs most worth a label to the new folder `out`, with contact sheets and a table.

    What came of it, in words.

    Raises:
        InputError: nothing to choose from, no such model, its training data is gone, or `out` is in use.
    """
    found, version = photographs(source), named(root, what)
    with _made(out.absolute()) as folder:
        from weathervane.store import Store

        answers = answering(root, version, device)
        held = {row.sha256 for row in Ledger.read(root / project.RAW).rows}
        there = _candidates(answers.model, Store(prepared_copy(root, answers.data)), found, held)
        picks = choose(there.probabilities, there.features, there.known, n)
        if not picks:
            raise InputError(f"{source}: nothing new to label there: all is labelled, nearly the same, or not readable")
        copied = _fill(folder, answers.model, found, there, picks)
    of_them = f"of which {len(there.looked)} are new and no near-duplicates"
    return f"{copied} of {len(found.names)} photographs, {of_them}"


@contextmanager
def _made(out: Path) -> Iterator[Path]:
    """A folder that takes the name `out` when it is complete."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError(f"--out {out}: is there already: name a new folder")
    aside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        aside.mkdir()
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made: {error.strerror}") from None
    try:
        yield aside
        aside.replace(out)
    except OSError as error:
        raise_if_no_room(error, out, 1)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _candidates(model: "Model", store: "Store", found: Listing, held: set[str]) -> Candidates:
    from weathervane.duplicates import signatures
    from weathervane.monitor import apart, of_training
    from weathervane.score import score

    trained = of_training(model, store)
    marks, fresh, parts = list(trained.marks), list["Looked"](), []
    for batch in score(model, found, "suggest"):
        usable = [one for one in batch.looked if one.pixels is not None]
        new = np.array([one.sha256 not in held for one in usable], bool)
        fresh += [replace(one, pixels=None) for one in compress(usable, new)]
        parts.append((batch.probabilities[new], batch.features[new]))
        marks += signatures(batch.pixels[new])
    first = apart(marks, len(trained.marks))
    probabilities, features = (np.concatenate(part)[first] for part in zip(*parts, strict=True))
    return Candidates(list(compress(fresh, first)), probabilities, features, trained.features[trained.learnt])


def _fill(folder: Path, model: "Model", found: Listing, there: Candidates, picks: list[Pick]) -> int:
    """The files, each under a name that says nothing of its class, the table, and the sheets; how many files."""
    from weathervane.pictures.photographs import sheet

    classes, chosen = model.spec.classes, [there.looked[pick.row] for pick in picks]
    wanted = {(one.path, one.sha256): pick for one, pick in zip(chosen, picks, strict=True)}
    rows, pixels = dict[Pick, dict[str, str]](), dict[Pick, np.ndarray]()
    names = list(dict.fromkeys(one.path for one in chosen))
    for reader in replace(found, names=names).readers():
        one = reader()
        digest = hashlib.sha256(one.data).hexdigest()
        if not (pick := wanted.get((one.name, digest))):
            continue  # changed since it was scored, or another of the same name
        ending, said = images.ENDINGS[str(images.open_image(one.data).format)], there.probabilities[pick.row]
        name = f"{picks.index(pick) + 1:03d}-{digest[:12]}{ending}"
        (folder / name).write_bytes(one.data)
        pixels[pick] = images.decode(one.data, model.spec.decode_size)
        rows[pick] = {"file": name, "path": one.name, "why": pick.why, "class": classes[said.argmax()]}
        rows[pick] |= {f"p_{label}": f"{p:.4f}" for label, p in zip(classes, said, strict=True)}
    left = [pick for pick in picks if pick in rows]
    if not left:
        raise InputError(f"{found.place}: what was chosen there changed or went away meanwhile: start again")
    with open(folder / TABLE, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, list(rows[left[0]]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[pick] for pick in left)
    for first in range(0, len(left), SHEET):
        shown = left[first : first + SHEET]
        captions = [
            [(f"{rows[p]['file'][:3]}: {p.why}", ""), (f"{rows[p]['class']}?", rows[p]["class"])] for p in shown
        ]
        heading = f"{first + 1}–{first + len(shown)} of {len(left)} photographs worth a label, and the model's word"
        target = folder / f"contact-sheet-{first // SHEET + 1}.png"
        sheet(np.stack([pixels[pick] for pick in shown]), captions, classes, heading, target)
    return len(left)
