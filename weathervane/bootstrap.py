"""95 % intervals of figures of a test set, in which near-duplicates are no new evidence.

Legend: N = images, B = draws.
"""

from collections.abc import Iterator

import numpy as np

from weathervane.measures import wilson

DRAWS = 2000
BLOCK = 4_000_000  # weights in memory at a time


def resamples(label: np.ndarray, group: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of bootstrap draws: how often each image was drawn, float64 [B, N]; DRAWS of them in all.

    Whole near-duplicate groups are drawn, among those with the same class (or the same ones, if labels differ in a
    group): so no draw lacks a class.
    """
    rng = np.random.default_rng(0)
    groups, of_image = np.unique(group, return_inverse=True)
    labels, number = np.unique(label, return_inverse=True)
    lacks = np.ones((len(groups), len(labels)), bool)
    lacks[of_image, number] = False
    kinds, kind = np.unique(lacks, axis=0, return_inverse=True)
    strata = [np.flatnonzero(kind == one) for one in range(len(kinds))]
    block = max(1, min(DRAWS, BLOCK // len(label)))
    for done in range(0, DRAWS, block):
        times = np.zeros((min(block, DRAWS - done), len(groups)))
        for members in strata:
            times[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), len(times))
        yield times[:, of_image]


def share_interval(share: float, group: np.ndarray) -> tuple[float, float]:
    """95 % interval of a share of images whose near-duplicate groups are given, one an image.

    The images count as many as independent ones would (Kish 1965), if those of a group are alike: n² / Σ m² for
    groups of m images.
    """
    sizes = np.unique(group, return_counts=True)[1]
    worth = len(group) ** 2 / max(1, int((sizes**2).sum()))
    return wilson(share * worth, worth)


def difference_interval(drawn: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """95 % interval of a difference of two models' shares, from its draws, float64 [DRAWS].

    Where no draw differs from another, the limits are what none among so many groups' votes can hide.
    """
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    if low < high:
        return low, high
    hidden = wilson(0, len(np.unique(group)))[1]
    return max(-1.0, low - hidden), min(1.0, high + hidden)
