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
    for draws in blocks(len(label)):
        times = np.zeros((draws, len(groups)))
        for members in strata:
            times[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), len(times))
        yield times[:, of_image]


def blocks(images: int) -> Iterator[int]:
    """How many draws at a time, DRAWS in all, so that those of so many images stay in memory."""
    block = max(1, min(DRAWS, BLOCK // images))
    yield from (min(block, DRAWS - done) for done in range(0, DRAWS, block))


def effective_size(group: np.ndarray) -> float:
    """As how many independent images those count whose near-duplicate groups are given, one an image.

    Kish 1965, if the images of a group are alike: n² / Σ m² for groups of m images.
    """
    sizes = np.unique(group, return_counts=True)[1]
    return len(group) ** 2 / max(1, int((sizes**2).sum()))


def share_interval(share: float, group: np.ndarray) -> tuple[float, float]:
    """95 % interval of a share of images: Wilson's, of as many as they are worth."""
    count = effective_size(group)
    return wilson(share * count, count)


def mean_interval(value: float, drawn: np.ndarray, worths: list[float]) -> tuple[float, float]:
    """95 % interval of an average over classes, of figures between 0 and 1 that rest on so many images each.

    Wilson's, of as many images as would let a share vary as the draws do (float64 [DRAWS]); or, where the draws vary
    less, as if mistakes were as likely in every class: a class without one never varies in them.
    """
    most = len(worths) ** 2 / sum(1 / one for one in worths) if worths else 0.0
    spread, alike = float(drawn.var()), value * (1 - value)
    count = alike / spread if spread * most > alike > 0 else most
    return wilson(value * count, count)
