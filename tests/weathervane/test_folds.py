"""The folds of a cross-validation: who learns, who chooses, who is asked."""

import copy
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weathervane.test_train import VARIANT
from weathervane.errors import InputError
from weathervane.files import sha256
from weathervane.folds import Crossing, Outer, check_folds, grouped, placed, places
from weathervane.params import check
from weathervane.splits import EXCLUDED, TEST, TRAIN, Place
from weathervane.store import PIXELS, Store, seal
from weathervane.train import train

CLASSES = ["cloudy", "rain", "shine"]
GROUPS = st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 4)), min_size=1, max_size=120).map(
    lambda groups: {f"{number:04x}": [label] * size for number, (label, size) in enumerate(groups)}
)
ASKED = st.fixed_dictionaries({"folds": st.integers(2, 6), "seed": st.integers(0, 3)})


def all_folds(groups: dict[str, list[str]], folds: int, seed: int, share: float = 1.0) -> list[dict[str, Place]]:
    return [places(groups, 5, Outer(folds=folds, seed=seed, share=share, fold=fold)) for fold in range(folds)]


def of_split(found: dict[str, Place], *splits: str) -> set[str]:
    return {group for group, place in found.items() if place.split in splits}


@settings(max_examples=60, deadline=None)
@given(GROUPS, ASKED)
def test_every_group_is_in_test_once(groups: dict[str, list[str]], asked: dict[str, int]) -> None:
    """Over the folds, each group is the test part once, whole, and learns or validates in all the others."""
    found = all_folds(groups, **asked)
    assert Counter(group for fold in found for group in of_split(fold, TEST)) == Counter(dict.fromkeys(groups, 1))
    for fold in found:
        assert fold.keys() == groups.keys()
        assert of_split(fold, EXCLUDED) == set()
        assert all(0 <= place.fold < 5 for place in fold.values() if place.split == TRAIN)
    assert all_folds(dict(reversed(groups.items())), **asked) == found


@settings(max_examples=60, deadline=None)
@given(GROUPS, ASKED)
def test_classes_are_spread_evenly(groups: dict[str, list[str]], asked: dict[str, int]) -> None:
    """The images of a class are as many in each test part, and in each inner fold, to within the largest group."""
    largest = max(map(len, groups.values()))

    def count(chosen: set[str], label: str) -> int:
        return sum(labels.count(label) for group, labels in groups.items() if group in chosen)

    found = all_folds(groups, **asked)
    for label in CLASSES:
        tested = [count(of_split(fold, TEST), label) for fold in found]
        assert max(tested) - min(tested) <= largest
        for fold in found:
            inner = [count({g for g, place in fold.items() if place == (TRAIN, n)}, label) for n in range(5)]
            assert max(inner) - min(inner) <= largest


def test_a_share_takes_from_what_is_learnt_only() -> None:
    """A share of the groups leaves test and validation as they are; of each class it keeps that share of the rest, and
    a smaller share learns from nothing that a larger one does not."""
    groups = {f"{number:04x}": [CLASSES[number % 3]] for number in range(240)}
    whole, half, quarter = (places(groups, 5, Outer(folds=4, fold=1, seed=0, share=s)) for s in (1.0, 0.5, 0.25))
    for found, share in ((half, 0.5), (quarter, 0.25)):
        assert of_split(found, TEST) == of_split(whole, TEST)
        assert [g for g in found if found[g] == (TRAIN, 0)] == [g for g in whole if whole[g] == (TRAIN, 0)]
        assert len(of_split(found, TEST, EXCLUDED)) == len(groups) - len(of_split(found, TRAIN))
        for label in CLASSES:
            learnt = {g for g, place in whole.items() if place.split == TRAIN and place.fold and groups[g] == [label]}
            assert len(learnt & of_split(found, TRAIN)) == round(share * len(learnt))
    assert of_split(quarter, TRAIN) < of_split(half, TRAIN) < of_split(whole, TRAIN)


def test_a_small_share_leaves_no_class_out() -> None:
    """Of a class of 10 among 200 a twentieth is still an image to learn from, in each fold."""
    groups = {f"{number:04x}": ["shine" if number % 21 else "rain"] for number in range(210)}
    for found in all_folds(groups, 5, 0, share=0.05):
        learnt = {g for g, place in found.items() if place.split == TRAIN and place.fold}
        assert {groups[g][0] for g in learnt} == {"rain", "shine"} and len(learnt) <= 8


def test_a_fold_without_a_class_to_learn_is_refused(store: Store) -> None:
    """Where near-duplicates leave a class nothing to learn from, that is told instead of trained."""
    other = copy.copy(store)
    snow = np.flatnonzero(store.manifest["label"] == store.classes[0])
    group = store.manifest["group"].copy()
    group[snow] = "one scene"
    group[snow[:2]] = "another", "a third"
    other.manifest = {**store.manifest, "group": group}
    with pytest.raises(InputError, match=rf"of 2: no image of class '{store.classes[0]}' is left to learn from"):
        for fold in range(2):
            placed(other, Outer(folds=2, fold=fold, seed=0))


def test_another_seed_makes_other_folds() -> None:
    """The seed chooses one of the possible cross-validations."""
    groups = {f"{number:04x}": ["rain"] for number in range(40)}
    assert all_folds(groups, 4, 0) != all_folds(groups, 4, 1)


def test_excluded_images_take_no_part() -> None:
    """An image that ties several groups is neither learnt from nor asked about."""
    images = [("a", "rain", TRAIN), ("a", "rain", EXCLUDED), ("b", "shine", TEST), ("c", "rain", EXCLUDED)]
    assert grouped(images) == {"a": ["rain"], "b": ["shine"]}


def test_an_image_that_ties_groups_stays_out_of_every_fold(store: Store) -> None:
    """An excluded image stays excluded in every fold: it bears the name of one of the groups that it ties, and is a
    near-duplicate of another one's images, too."""
    other = copy.copy(store)
    split = store.manifest["split"].astype("U8")
    split[0] = EXCLUDED
    group = store.manifest["group"].copy()
    group[0] = group[1]
    other.manifest = {**store.manifest, "split": split, "group": group}
    for fold in range(4):
        assert placed(other, Outer(folds=4, fold=fold, seed=0)).manifest["split"][0] == EXCLUDED


def test_too_many_folds_are_refused() -> None:
    """With more folds than a class has groups, or fewer than 3 of them, the class is named with their number, however
    many images it has."""
    groups = {"a": ["rain"] * 9, "b": ["rain"], "c": ["shine"], "d": ["shine"], "e": ["shine", "shine", "rain"]}
    with pytest.raises(InputError, match=r"--folds 2: class 'rain' has 2 images that are no near-duplicates"):
        check_folds(groups, 2)
    groups["f"] = ["rain"]
    check_folds(groups | {"g": ["shine"]}, 3)
    with pytest.raises(InputError, match=r"\(a class needs 4 such images in any case\)"):  # two tested, one validated
        check_folds(groups | {"g": ["shine"]}, 2)
    with pytest.raises(InputError, match=r"--folds 4: class 'rain' has 3 images that are no near-duplicates"):
        check_folds(groups, 4)


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"folds": 1}, "'folds' is 1"), ({"folds": 5, "share": 0}, "'share' is 0"), ({"folds": 5, "share": 1.1}, "1.1")],
)
def test_senseless_crossings_are_refused(asked: dict[str, Any], told: str) -> None:
    """A single fold, no images to learn from, more than all of them: the figure is named."""
    with pytest.raises(InputError, match=told):
        check(Crossing, asked, "crossval")


def test_a_placed_store_has_the_same_images_elsewhere(store: Store) -> None:
    """Over the folds, the test parts are all images once, no group is on two sides, and the store itself stays."""
    before, seen = store.manifest["split"].copy(), []
    for fold in range(4):
        other = placed(store, Outer(folds=4, fold=fold, seed=0))
        test, val = other.part("test"), other.part("train", fold=0)
        train_ = other.part("train", without_fold=0)
        assert sorted([*test, *val, *train_]) == list(range(len(before)))
        sides = [set(store.manifest["group"][rows]) for rows in (test, val, train_)]
        assert sides[0].isdisjoint(sides[1] | sides[2]) and sides[1].isdisjoint(sides[2])
        assert np.array_equal(other.pixels(test), store.pixels(test))
        seen += test.tolist()
    assert sorted(seen) == list(range(len(before)))
    assert np.array_equal(store.manifest["split"], before)


def test_an_inner_fold_is_as_large_as_the_datasets_own(store: Store) -> None:
    """Inside train there are as many folds as the dataset has, whatever the number of outer ones."""
    assert set(placed(store, Outer(folds=4, fold=0, seed=0)).manifest["fold"]) == set(store.manifest["fold"])


def trained(folder: Path, data: Path, outer: dict[str, Any]) -> str:
    """sha256 of the weights of a job of an outer fold."""
    folder.mkdir()
    job = {"name": "small", "variant": VARIANT, "data": str(data), "device": "cpu", "seed": 0, "fold": 0, "threads": 1}
    (folder / "job.json").write_text(json.dumps(job | {"outer": outer}), encoding="utf-8")
    train(folder)
    return sha256(folder / "model/model.safetensors") + sha256(folder / "model/model.json")


def test_nothing_of_the_test_part_is_looked_at(store: Store, tmp_path: Path) -> None:
    """A training whose test part is replaced with noise gives the same weights and temperature, to the last bit; one
    whose validation or training part is does not."""
    outer = {"folds": 4, "fold": 2, "seed": 0}
    other = placed(store, Outer(**outer))
    parts = {
        "nothing": np.array([], int),
        "test": other.part("test"),
        "val": other.part("train", fold=0),
        "train": other.part("train", without_fold=0),
    }
    found = {}
    for name, rows in parts.items():
        data = shutil.copytree(store.folder, tmp_path / name / "data")
        first = 0
        for shard in sorted((data / PIXELS).glob("*.npy")):
            pixels = np.load(shard)
            here = rows[(rows >= first) & (rows < first + len(pixels))] - first
            pixels[here] = np.random.default_rng(0).integers(0, 256, (len(here), *pixels.shape[1:]), np.uint8)
            np.save(shard, pixels)
            first += len(pixels)
        seal(data)
        found[name] = trained(tmp_path / name / "training", data, outer)
    assert found["test"] == found["nothing"]
    assert len(set(found.values())) == 3
