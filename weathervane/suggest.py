"""Which unlabelled photographs are worth a label: what the model is unsure of, and what it has seen nothing like.

Legend: N = images, M = images that the model has learnt from, D = features, K = classes.
"""

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from weathervane.drift import Bank, l2_normalised

UNSURE, STRANGE = "unsure", "unfamiliar"


@dataclass(frozen=True)
class Pick:
    """A row number, and what speaks for it: UNSURE or STRANGE."""

    row: int
    why: str


def choose(probabilities: np.ndarray, features: np.ndarray, known: np.ndarray, n: int) -> list[Pick]:
    """The `n` most worthwhile of N, or all of them, in order.

    Two judges choose in turn and keep away from what is chosen. The first (BADGE: Ash et al. 2020, arXiv 1906.03671)
    draws by k-means++ among the gradients that an image would cause in the last layer if the model's own answer were
    right: long where it is unsure, and different where images are. It is blind to what a model is sure of and wrong; so
    the second (core-set: Sener & Savarese 2018, arXiv 1708.00489) takes what is furthest from all that the model has
    learnt from.

    Args:
        probabilities: float32 [N, K].
        features: float32 [N, D].
        known: float32 [M, D], features of the images that the model has learnt from.
        n: how many.
    """
    rng, left = np.random.default_rng(0), np.ones(len(features), bool)
    judges: dict[str, Gradients | Coverage] = {
        UNSURE: Gradients(probabilities, features, rng),
        STRANGE: Coverage(features, known),
    }
    picks: list[Pick] = []
    for _, why in zip(range(min(n, len(features))), cycle(judges), strict=False):
        row = judges[why].next(left)
        left[row] = False
        for judge in judges.values():
            judge.take(row)
        picks.append(Pick(row, why))
    return picks


class Gradients:
    """BADGE; the outer products [K, D] are never made, only their inner products."""

    def __init__(self, probabilities: np.ndarray, features: np.ndarray, rng: np.random.Generator) -> None:
        self._error = probabilities.astype(np.float64)
        self._error[np.arange(len(self._error)), probabilities.argmax(1)] -= 1
        self._features, self._rng = features.astype(np.float64), rng
        self._squared = (self._error**2).sum(1) * (self._features**2).sum(1)
        self._apart = self._squared.copy()  # squared distance to the nearest that is chosen
        self._begun = False

    def next(self, left: np.ndarray) -> int:
        """One of those `left`, bool [N]: first the longest gradient, then one drawn by its squared distance."""
        weight = np.where(left, self._apart, 0.0)
        if not self._begun or not weight.sum() > 0:
            return int(np.where(left, self._apart, -1.0).argmax())
        return int(self._rng.choice(len(weight), p=weight / weight.sum()))

    def take(self, row: int) -> None:
        """It is chosen."""
        inner = (self._error @ self._error[row]) * (self._features @ self._features[row])
        apart = np.maximum(0, self._squared + self._squared[row] - 2 * inner)
        self._apart = np.minimum(self._apart, apart) if self._begun else apart
        self._begun = True


class Coverage:
    """Core-set, greedily, on features of length 1."""

    def __init__(self, features: np.ndarray, known: np.ndarray) -> None:
        self._features = l2_normalised(features)
        self._apart = Bank(known, neighbour=1).distances(features)

    def next(self, left: np.ndarray) -> int:
        """The one of those `left`, bool [N], that is furthest from what is known and chosen."""
        return int(np.where(left, self._apart, -1.0).argmax())

    def take(self, row: int) -> None:
        """It is chosen."""
        self._apart = np.minimum(self._apart, np.linalg.norm(self._features - self._features[row], axis=1))
