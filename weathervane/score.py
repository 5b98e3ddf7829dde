"""Scoring: from photographs to rows, by several threads and the model's device, a batch at a time.

Legend: N = images, S = size, D = features, K = classes.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from weathervane import images
from weathervane.features import at_once, with_features
from weathervane.listing import Done, Listing, Reader
from weathervane.model import Model
from weathervane.parallel import in_order
from weathervane.progress import bar
from weathervane.traits import traits


@dataclass(frozen=True)
class Looked:
    """A file that was read: its pixels, uint8 [S, S, 3], and its width and height in pixels, or what is wrong."""

    path: str
    stamp: str
    sha256: str
    seconds: float
    pixels: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    problem: str = ""


@dataclass(frozen=True)
class Batch:
    """Files that went through the network together.

    Attributes:
        looked: all of them, in their order; what follows is of the usable ones among them, n of N.
        pixels: uint8 [n, S, S, 3].
        probabilities: float32 [n, K].
        features: float32 [n, D], see `weathervane.features`.
        traits: width, height, and those of `traits`, float64 [n] each.
        classes: names of the K.
        seconds: of the network and the traits.
    """

    looked: list[Looked]
    pixels: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    traits: dict[str, np.ndarray]
    classes: list[str]
    seconds: float

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each file, in their order.

        Columns: path, stamp, sha256, class, probability (of that class), p_<class> for each class, the traits, problem
        (why there is no class; empty otherwise), seconds (reading, decoding, and its part of the rest).
        """
        answers = zip(self.probabilities, *self.traits.values(), strict=True)  # of the usable ones alone
        each = self.seconds / max(1, len(self.pixels))
        found = []
        for one in self.looked:
            row: dict[str, Any] = {"path": one.path, "stamp": one.stamp, "sha256": one.sha256, "problem": one.problem}
            row["seconds"] = one.seconds
            if not one.problem:
                probability, *values = next(answers)
                best = int(probability.argmax())
                row |= {"class": self.classes[best], "probability": float(probability[best])}
                row |= {f"p_{name}": float(value) for name, value in zip(self.classes, probability, strict=True)}
                row |= {name: float(value) for name, value in zip(self.traits, values, strict=True)}
                row["seconds"] += each
            found.append(row)
        return found


def score(model: Model, found: Listing, what: str, seen: Done = lambda *_: False) -> Iterator[Batch]:
    """The files that were not `seen`, in their order, `at_once` at a time, with a bar that says `what` is done.

    Of files side by side twice as many are decoded ahead; what reads an archive holds the bytes of all that are.
    """

    def looked(reader: Reader) -> Looked:
        return look(reader, model.spec.decode_size)

    most = at_once(model.spec.decode_size)
    ahead = 2 * most if found.side_by_side else None
    files = in_order(looked, found.readers(seen), ahead=ahead)
    with bar(what, len(found.names)) as done:
        while batch := list(islice(files, most)):
            yield _scored(model, batch)
            done(len(batch))


def look(reader: Reader, size: int) -> Looked:
    """Read and decode one file; whatever is wrong with it is told, not raised."""
    began = time.perf_counter()
    found = reader()
    digest, problem, pixels, sides = "", "", None, (0, 0)
    try:
        if found.reason:
            raise images.BadImage(found.reason, found.detail)
        if len(found.data) <= images.MAX_BYTES:  # of a larger one not all is there
            digest = hashlib.sha256(found.data).hexdigest()
        image = images.open_image(found.data)
        sides = images.sides(image)
        pixels = images.shrunk(image, size)
    except images.BadImage as error:
        problem = str(error)
    return Looked(found.name, found.stamp, digest, time.perf_counter() - began, pixels, sides, problem)


def _scored(model: Model, batch: list[Looked]) -> Batch:
    began, size = time.perf_counter(), model.spec.decode_size
    usable = [one for one in batch if one.pixels is not None]
    pixels = np.array([one.pixels for one in usable], np.uint8).reshape(-1, size, size, 3)
    width, height = np.array([one.size for one in usable], np.float64).reshape(-1, 2).T
    known = {"width": width, "height": height, **traits(pixels)}
    probabilities, features = with_features(model, pixels)
    return Batch(batch, pixels, probabilities, features, known, model.spec.classes, time.perf_counter() - began)
