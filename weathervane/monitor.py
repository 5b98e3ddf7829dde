"""The two sides that `drift` compares: the images a model was trained on, and photographs that were scored lately.

Legend: N = images, S = size.
"""

import math
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from weathervane.drift import Bank
from weathervane.duplicates import Signature, components, signatures, stacked
from weathervane.errors import InputError
from weathervane.features import at_once, store_features
from weathervane.folds import VALIDATION
from weathervane.layout import shown
from weathervane.model import Model
from weathervane.parallel import in_order
from weathervane.score import Batch
from weathervane.splits import EXCLUDED, TRAIN
from weathervane.store import Store
from weathervane.traits import traits

if TYPE_CHECKING:
    import pandas as pd

STRANGEST = 18


@dataclass(frozen=True)
class Trained:
    """The images of a model's training data, N of them.

    Attributes:
        table: a row for each group of near-duplicates, see `judge`; the index holds the rows' numbers in the store.
        learnt: bool [N]; those that the training has learnt from, without validation.
        features: float32 [N, D].
        marks: N; near-duplicates have similar ones.
    """

    table: "pd.DataFrame"
    learnt: np.ndarray
    features: np.ndarray
    marks: list[Signature]


def of_training(model: Model, store: Store) -> Trained:
    """Look at all images of a store.

    Raises:
        InputError: they are not of the size that the model's are decoded at.
    """
    import pandas as pd

    if store.size != model.spec.decode_size:
        raise InputError(
            f"the model looks at {model.spec.decode_size} pixels a side, {store.folder} holds {store.size}: "
            "image_size in params/prepare.yaml was another: retrain first"
        )

    def look(rows: np.ndarray) -> tuple["pd.DataFrame", list[Signature]]:
        pixels = store.pixels(rows)
        return pd.DataFrame(traits(pixels)), signatures(pixels)

    held = store.manifest
    learnt = (held["split"] == TRAIN) & (held["fold"] != VALIDATION)
    probabilities, features = store_features(model, store)
    blocks = np.array_split(np.arange(len(features)), math.ceil(len(features) / at_once(store.size)))
    seen, marks = zip(*in_order(look, blocks), strict=True)
    distances = np.full(len(features), np.nan, np.float32)  # of what was learnt, nobody asks how far it is from itself
    distances[~learnt] = Bank(features[learnt]).distances(features[~learnt])
    table = pd.concat(seen, ignore_index=True).assign(
        **_judged(model.spec.classes, probabilities, distances),
        size=np.sqrt(held["width"] * held["height"]),
        unseen=~learnt,
        group=held["group"],
    )
    table = table[held["split"] != EXCLUDED].drop_duplicates("group")
    return Trained(table, learnt, features, list(chain.from_iterable(marks)))


def apart(marks: list[Signature], known: int = 0) -> np.ndarray:
    """bool [len(marks) - known]: which are no near-duplicates of one before them, the first `known` included."""
    if not marks:
        return np.empty(0, bool)
    return (components(*stacked(marks), new_from=known) == np.arange(len(marks)))[known:]


def _judged(classes: list[str], probabilities: np.ndarray, distances: np.ndarray) -> dict[str, Any]:
    return {
        "class": np.array(classes)[probabilities.argmax(1)],
        "confidence": probabilities.max(1),
        "distance": distances,
    }


@dataclass(frozen=True)
class Strange:
    """A photograph far from all that the model has learnt from: uint8 [S, S, 3] of it, and what was said."""

    distance: float
    path: str
    label: str
    confidence: float
    pixels: np.ndarray


class Lately:
    """Photographs that were scored, taken in a batch at a time; of the pixels, only the strangest are kept."""

    def __init__(self, trained: Trained) -> None:
        self.strangest: list[Strange] = []
        self.files, self.unusable = 0, 0
        self._bank, self._tables = Bank(trained.features[trained.learnt]), list["pd.DataFrame"]()
        self._marks = [mark for mark, learnt in zip(trained.marks, trained.learnt, strict=True) if learnt]
        self._known = len(self._marks)

    def add(self, batch: Batch) -> None:
        """Measure a batch."""
        import pandas as pd

        usable = [one for one in batch.looked if not one.problem]
        self.files += len(batch.looked)
        self.unusable += len(batch.looked) - len(usable)
        if not usable:
            return
        self._marks += signatures(batch.pixels)
        table = pd.DataFrame(batch.traits).assign(
            **_judged(batch.classes, batch.probabilities, self._bank.distances(batch.features)),
            size=lambda table: np.sqrt(table["width"] * table["height"]),
            path=[shown(one.path) for one in usable],
        )
        self._tables.append(table)
        columns = (table[name] for name in ("distance", "path", "class", "confidence"))
        said = [*self.strangest, *(Strange(*one) for one in zip(*columns, batch.pixels, strict=True))]
        said.sort(key=lambda one: (-one.distance, one.path))
        # Copies: a view would keep its whole batch.
        self.strangest = [replace(one, pixels=one.pixels.copy()) for one in said[:STRANGEST]]

    @property
    def table(self) -> "pd.DataFrame":
        """The first of each group of near-duplicates, a row each; see `judge`. None that the model has learnt from."""
        import pandas as pd

        if not self._tables:
            return pd.DataFrame()
        kept = apart(self._marks, self._known)
        return pd.concat(self._tables, ignore_index=True)[kept].reset_index(drop=True)
