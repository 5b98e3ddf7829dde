"""The two sides that `drift` compares: the images a model was trained on, and photographs that were scored lately.

Legend: N = images, S = size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from weathervane.drift import Bank
from weathervane.duplicates import Signature, groups, pairs, signature
from weathervane.errors import InputError
from weathervane.features import of_store
from weathervane.model import Model
from weathervane.parallel import in_order
from weathervane.score import Batch
from weathervane.splits import EXCLUDED, TRAIN
from weathervane.store import Store
from weathervane.traits import traits

if TYPE_CHECKING:
    import pandas as pd

VALIDATION = 0  # the fold that a training does not learn from
STRANGEST = 18


def of_training(model: Model, store: Store) -> "tuple[pd.DataFrame, Bank]":
    """A row for each group of near-duplicates, see `judge`, and the features that the model has learnt from.

    The index holds the rows' numbers in the store.

    Raises:
        InputError: the store's images are not of the size that the model's are decoded at.
    """
    import pandas as pd

    if store.size != model.spec.decode_size:
        raise InputError(
            f"the model looks at {model.spec.decode_size} pixels a side, {store.folder} holds {store.size}: "
            "image_size in params/prepare.yaml was another: retrain first"
        )
    held, learnt = store.manifest, learnt_from(store)
    probabilities, features = of_store(model, store)
    rows = in_order(lambda row: traits(store.pixels(np.array([row]))[0]), range(len(features)))
    bank = Bank(features[learnt])
    table = pd.DataFrame(list(rows)).assign(
        **_judged(model.spec.classes, probabilities, bank.distances(features)),
        size=np.sqrt(held["width"] * held["height"]),
        unseen=~learnt,
        group=held["group"],
    )
    return table[held["split"] != EXCLUDED].drop_duplicates("group"), bank


def learnt_from(store: Store) -> np.ndarray:
    """bool [N]: the images that a training learns from."""
    return (store.manifest["split"] == TRAIN) & (store.manifest["fold"] != VALIDATION)


def _judged(classes: list[str], probabilities: np.ndarray, distances: np.ndarray) -> dict[str, Any]:
    best = probabilities.argmax(1) if len(probabilities) else np.empty(0, int)
    return {"class": np.array(classes)[best], "confidence": probabilities.max(1), "distance": distances}


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

    def __init__(self, bank: Bank) -> None:
        self.strangest: list[Strange] = []
        self.files, self.unusable = 0, 0
        self._bank, self._tables, self._marks = bank, list["pd.DataFrame"](), list[Signature]()

    def add(self, batch: Batch) -> None:
        """Measure a batch."""
        import pandas as pd

        usable = [one for one in batch.looked if one.traits is not None]
        self.files += len(batch.looked)
        self.unusable += len(batch.looked) - len(usable)
        if not usable:
            return
        self._marks += [signature(Image.fromarray(one)) for one in batch.pixels]
        table = pd.DataFrame([one.traits for one in usable]).assign(
            **_judged(batch.classes, batch.probabilities, self._bank.distances(batch.features)),
            size=lambda table: np.sqrt(table["width"] * table["height"]),
            path=[one.path for one in usable],
        )
        self._tables.append(table)
        columns = (table[name] for name in ("distance", "path", "class", "confidence"))
        said = (Strange(*one) for one in zip(*columns, batch.pixels, strict=True))
        self.strangest = sorted([*self.strangest, *said], key=lambda one: (-one.distance, one.path))[:STRANGEST]

    @property
    def table(self) -> "pd.DataFrame":
        """The first of each group of near-duplicates, a row each; see `judge`."""
        import pandas as pd

        if not self._tables:
            return pd.DataFrame()
        alike = pairs(np.array([mark.dhash for mark in self._marks]), np.stack([mark.grey for mark in self._marks]))
        first = groups(len(self._marks), alike) == np.arange(len(self._marks))
        return pd.concat(self._tables, ignore_index=True)[first].reset_index(drop=True)
