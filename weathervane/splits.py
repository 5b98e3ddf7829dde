"""Who is in train and who is in test: decided once, by group, the same on every machine.

A newcomer's place depends on the groups that came before it and on sha256 alone, never on the order of
files, their names or a random state; so adding, re-ordering and renaming move nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

TRAIN, TEST, EXCLUDED = "train", "test", "excluded"


class Place(NamedTuple):
    """A side, and inside train a fold from 0; fold is -1 elsewhere."""

    split: str
    fold: int


def assign(
    newcomers: Mapping[str, Sequence[str]],
    held: Mapping[Place, Mapping[str, int]],
    *,
    test_fraction: float,
    folds: int,
    seed: int,
) -> dict[str, Place]:
    """A place for each new group, stratified by class.

    Args:
        newcomers: group id → the class of each of its images (one class, as a rule).
        held: images a class that each place holds already.
        test_fraction: wanted share of test in each class, 0-1; reached to within a group.
        folds: number of folds inside train; each takes the class's next group when it holds the fewest.
        seed: chooses one of the possible splits.

    Returns:
        group id → place; whole groups only.
    """
    count: dict[Place, Counter[str]] = {place: Counter(labels) for place, labels in held.items()}
    test = count.setdefault(Place(TEST, -1), Counter())
    inside = [count.setdefault(Place(TRAIN, fold), Counter()) for fold in range(folds)]
    total: Counter[str] = sum((c for place, c in count.items() if place.split != EXCLUDED), Counter())
    for labels in newcomers.values():
        total.update(labels)

    places = {}
    for group in sorted(newcomers, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest()):
        images = Counter(newcomers[group])
        label = max(sorted(images), key=images.__getitem__)
        if test[label] + images[label] <= round(test_fraction * total[label]):
            places[group], side = Place(TEST, -1), test
        else:
            fold = min(range(folds), key=lambda fold: inside[fold][label])
            places[group], side = Place(TRAIN, fold), inside[fold]
        side.update(images)
    return places
