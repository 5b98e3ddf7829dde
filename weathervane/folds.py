"""Cross-validation: which images a model learns from, which choose its epoch, and which it is asked about at the end.

Each outer fold is the test part once. Of the rest, an inner fold as large as the dataset's own chooses the epoch and
the temperature. On both levels near-duplicates stay together and classes are spread evenly, by `weathervane.splits`.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.errors import InputError
from weathervane.params import Seed, Strict
from weathervane.splits import EXCLUDED, TEST, TRAIN, Place, assign

if TYPE_CHECKING:
    from weathervane.store import Store

VALIDATION = 0  # the inner fold that `weathervane.fit` is told to validate on


class Crossing(Strict):
    """A cross-validation."""

    folds: int = Field(ge=2, le=50)
    share: float = Field(default=1.0, gt=0, le=1)  # of the groups that a model may learn from: a learning curve's step

    def told(self) -> dict[str, str]:
        """Its figures by name, for tags and fingerprints."""
        return {key: str(value) for key, value in self.model_dump().items()}


class Outer(Crossing):
    """One of its outer folds, which is the test part; `seed` chooses one of the possible cross-validations."""

    fold: int = Field(ge=0)
    seed: Seed


def grouped(images: Iterable[tuple[str, str, str]]) -> dict[str, list[str]]:
    """Group → the class of each of its images, from (group, class, split); excluded images take no part."""
    groups: dict[str, list[str]] = defaultdict(list)
    for group, label, split in images:
        if split != EXCLUDED:
            groups[group].append(label)
    return groups


def check_folds(groups: Mapping[str, Sequence[str]], folds: int) -> None:
    """Refuse a cross-validation in which a class would be absent from a test part, or could not be there to test, to
    validate and to learn from at once.

    Raises:
        InputError: a class has fewer groups than there are folds, or than 3; than 4 where half of them are tested.
    """
    count = Counter(Counter(sorted(labels)).most_common(1)[0][0] for labels in groups.values())
    label = min(sorted(count), key=count.__getitem__, default="")
    least = 4 if folds == 2 else 3  # one to test in each fold, and of the others one to validate and one to learn from
    if count[label] < max(folds, least):
        raise InputError(
            f"--folds {folds}: class '{label}' has {count[label]} images that are no near-duplicates of each other: "
            f"take fewer folds (a class needs {least} such images in any case), or add images"
        )


def places(groups: Mapping[str, Sequence[str]], inner: int, outer: Outer) -> dict[str, Place]:
    """Group → test, one of the `inner` folds of train, or excluded: what `share` leaves out.

    Test and validation do not depend on the share, and what a smaller one learns from a larger one does, too, but for
    groups of several images.
    """

    def split(some: Mapping[str, Sequence[str]], folds: int, apart: float = 0.0) -> dict[str, Place]:
        return assign(some, {}, test_fraction=apart, folds=folds, seed=outer.seed)

    test = {group for group, place in split(groups, outer.folds).items() if place.fold == outer.fold}
    inside = split({group: labels for group, labels in groups.items() if group not in test}, inner)
    learnt = {group: groups[group] for group, place in inside.items() if place.fold != VALIDATION}
    drawn = split(learnt, 1, 1 - outer.share)
    kept = {label: group for group in drawn for label in groups[group]}  # the last of each class: none is left without
    spared = {group for group, place in drawn.items() if place.split == TEST} - set(kept.values())
    return {
        **inside,
        **dict.fromkeys(test, Place(TEST, -1)),
        **dict.fromkeys(spared, Place(EXCLUDED, -1)),
    }


def _labels(groups: Mapping[str, Sequence[str]], some: Iterable[str]) -> set[str]:
    return {label for group in some for label in groups[group]}


def placed(store: "Store", outer: Outer) -> "Store":
    """The same images, with the columns `split` and `fold` of this outer fold.

    Raises:
        InputError: a class has no image to learn from.
    """
    import numpy as np

    columns = [store.manifest[name].tolist() for name in ("group", "label", "split")]
    groups = grouped(zip(*columns, strict=True))
    found = places(groups, int(store.manifest["fold"].max()) + 1, outer)
    learnt = [group for group, place in found.items() if place.split == TRAIN and place.fold != VALIDATION]
    if unlearnt := sorted(_labels(groups, groups) - _labels(groups, learnt)):
        raise InputError(
            f"fold {outer.fold + 1} of {outer.folds}: no image of class '{unlearnt[0]}' is left to learn from: take "
            "other folds, or add images that are no near-duplicates"
        )
    nowhere = Place(EXCLUDED, -1)
    each = [nowhere if split == EXCLUDED else found[group] for group, _, split in zip(*columns, strict=True)]
    other = copy.copy(store)
    other.manifest = {
        **store.manifest,
        "split": np.array([place.split for place in each]),
        "fold": np.array([place.fold for place in each]),
    }
    return other
