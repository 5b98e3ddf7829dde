"""Splits that stay, whatever arrives, in whatever order, under whatever name."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.noise import photograph
from weathervane.ingest import Ingest, ingest
from weathervane.ledger import Ledger, Row
from weathervane.splits import EXCLUDED, TEST, TRAIN, Place, assign

CLASSES = ["cloudy", "rain", "shine"]
GROUP = st.lists(st.sampled_from(CLASSES), min_size=1, max_size=1).flatmap(
    lambda label: st.integers(1, 4).map(lambda size: label * size)
)
MIXED = st.lists(st.sampled_from(CLASSES), min_size=1, max_size=4)


def growth(group: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[dict[str, list[str]]]]:
    """Batches of new groups, named apart: what several ingests bring."""
    batches = st.lists(st.lists(group, max_size=25), min_size=1, max_size=6)
    return batches.map(
        lambda all_: [{f"{b:02x}{n:04x}": labels for n, labels in enumerate(batch)} for b, batch in enumerate(all_)]
    )


SETTINGS = st.fixed_dictionaries(
    {"test_fraction": st.sampled_from([0.1, 0.2, 0.33, 0.5]), "folds": st.integers(2, 6), "seed": st.integers(0, 3)}
)


def grow(batches: list[dict[str, list[str]]], given: dict) -> list[dict[str, Place]]:
    """Places of all groups after each batch, as a ledger would hold them."""
    placed: dict[str, Place] = {}
    labels: dict[str, list[str]] = {}
    history = []
    for batch in batches:
        held: dict[Place, Counter[str]] = defaultdict(Counter)
        for group, place in placed.items():
            held[place].update(labels[group])
        new = assign(batch, held, **given)
        assert new.keys() == batch.keys()
        placed, labels = {**placed, **new}, {**labels, **batch}
        history.append(placed)
    return history


@settings(max_examples=60, deadline=None)
@given(growth(MIXED), SETTINGS)
def test_once_in_test_always_in_test(batches, given_) -> None:
    """No later arrival moves a group; each stands whole in one place, and every place is one of the list."""
    history = grow(batches, given_)
    for before, after in pairwise(history):
        assert before.items() <= after.items()
    allowed = {Place(TEST, -1), *(Place(TRAIN, fold) for fold in range(given_["folds"]))}
    assert set(history[-1].values()) <= allowed


@settings(max_examples=80, deadline=None)
@given(growth(GROUP), SETTINGS)
def test_stratified_to_within_a_group(batches, given_) -> None:
    """After every batch each class's test share is the wanted one, and its folds are level, to within a group."""
    everything: dict[str, list[str]] = {}
    for batch, placed in zip(batches, grow(batches, given_), strict=True):
        everything |= batch
        for label in CLASSES:
            sizes = {group: len(labels) for group, labels in everything.items() if labels[0] == label}
            largest = max(sizes.values(), default=0)
            wanted = round(given_["test_fraction"] * sum(sizes.values()))
            count: Counter[Place] = Counter()
            for group, size in sizes.items():
                count[placed[group]] += size
            assert wanted - largest <= count[Place(TEST, -1)] <= wanted
            folds = [count[Place(TRAIN, fold)] for fold in range(given_["folds"])]
            assert max(folds) - min(folds) <= largest


@settings(max_examples=60, deadline=None)
@given(growth(MIXED), SETTINGS, st.randoms(use_true_random=False))
def test_order_decides_nothing(batches, given_, shuffler: random.Random) -> None:
    """The order of groups, of images in a group and of what is held leaves every place as it is."""
    shuffled = []
    for batch in batches:
        groups = list(batch.items())
        shuffler.shuffle(groups)
        shuffled.append({group: shuffler.sample(labels, len(labels)) for group, labels in groups})
    assert grow(shuffled, given_)[-1] == grow(batches, given_)[-1]


def test_the_split_is_the_same_on_every_machine() -> None:
    """These places are written down: another Python, platform or hash seed must give them again."""
    groups = {f"{n:012x}": ["rain" if n % 2 else "shine"] for n in range(10)}
    placed = assign(groups, {}, test_fraction=0.2, folds=2, seed=0)
    where: dict[Place, str] = defaultdict(str)
    for group in sorted(placed):
        where[placed[group]] += group[-1]
    assert where == {Place(TEST, -1): "29", Place(TRAIN, 0): "3456", Place(TRAIN, 1): "0178"}


def test_the_seed_chooses_the_split() -> None:
    """Another seed is another split of the same groups, and a seed always gives its own."""
    groups = {f"{n:012x}": ["rain"] for n in range(60)}

    def test_of(seed: int) -> set[str]:
        placed = assign(groups, {}, test_fraction=0.2, folds=5, seed=seed)
        return {group for group, place in placed.items() if place.split == TEST}

    assert test_of(0) == test_of(0)
    assert len({frozenset(test_of(seed)) for seed in range(5)}) == 5


def test_excluded_images_count_for_nobody() -> None:
    """Images kept out of training and test do not enlarge the test part."""
    groups = {f"{n:012x}": ["rain"] for n in range(10)}
    kept_out = {Place(EXCLUDED, -1): {"rain": 1000}}
    options = {"test_fraction": 0.2, "folds": 2, "seed": 0}
    assert assign(groups, kept_out, **options) == assign(groups, {}, **options)


def test_a_group_too_large_for_test_is_trained_on() -> None:
    """Groups are never cut: one that is larger than the whole test part goes to train."""
    placed = assign({"a": ["rain"] * 9, "b": ["rain"]}, {}, test_fraction=0.2, folds=2, seed=0)
    assert placed["a"].split == TRAIN


# The same facts through a whole ingest: pictures, ledger, near-duplicate groups.


def ledger_of(root: Path, *sources: Path) -> dict[str, Row]:
    """Ingest the sources; the ledger's rows by sha256."""
    local = [{"kind": "local", "path": str(source)} for source in sources]
    params = {"dataset": "t", "sources": local, "test_fraction": 0.25, "folds": 3, "seed": 0}
    ingest(Ingest.model_validate(params | {"max_bad": 0.0, "min_per_class": 3}), root)
    return {row.sha256: row for row in Ledger.read(root / "data/raw").rows}


@pytest.fixture
def batches(tmp_path: Path) -> list[Path]:
    """Three folders of 2 classes x 8 pictures."""
    folders = [tmp_path / f"batch{n}" for n in range(3)]
    for n, folder in enumerate(folders):
        for k in range(16):
            path = folder / ("rain", "shine")[k % 2] / f"{k}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photograph(100 * n + k))
    return folders


def test_adding_moves_nothing(tmp_path: Path, batches: list[Path]) -> None:
    """Each ingest keeps every earlier row to the letter, and the test share follows."""
    root = tmp_path / "root"
    held: dict[str, Row] = {}
    for n in range(3):
        rows = ledger_of(root, *batches[: n + 1])
        assert held.items() <= rows.items()
        held = rows
        tests = Counter(row.label for row in rows.values() if row.split == TEST)
        assert tests == {"rain": 2 * (n + 1), "shine": 2 * (n + 1)}


def test_the_same_again_moves_nothing(tmp_path: Path, batches: list[Path]) -> None:
    """Ingesting once more, after renaming every file and turning the order round, leaves the ledger's bytes."""
    root = tmp_path / "root"
    ledger_of(root, *batches)
    before = (root / "data/raw/ledger.csv").read_bytes()
    for folder in batches:
        for n, path in enumerate(sorted(folder.rglob("*.jpg"), reverse=True)):
            path.rename(path.with_name(f"renamed {n}.jpeg"))
    ledger_of(root, *reversed(batches))
    assert (root / "data/raw/ledger.csv").read_bytes() == before


def test_names_and_order_decide_nothing(tmp_path: Path, batches: list[Path]) -> None:
    """Two teams that ingest the same pictures under other names in another order get equal splits."""
    ours = ledger_of(tmp_path / "ours", *batches)
    for folder in batches:
        for n, path in enumerate(sorted(folder.rglob("*.jpg"))):
            path.rename(path.with_name(f"{99 - n}.jpg"))
    theirs = ledger_of(tmp_path / "theirs", *reversed(batches))
    assert ours.keys() == theirs.keys()
    for sha256, row in theirs.items():
        assert replace(row, name="", source="") == replace(ours[sha256], name="", source="")


@pytest.mark.fault(12, trials=16)
def test_a_newcomer_joins_its_group(tmp_path: Path, batches: list[Path]) -> None:
    """A recompressed copy of a test picture is a test picture, one of a train picture stays in its fold."""
    root = tmp_path / "root"
    before = ledger_of(root, batches[0])
    for row in before.values():
        copy = tmp_path / "copies" / row.label / f"{row.sha256[:8]}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(root / "data/raw" / row.path).save(copy, quality=60)
    after = ledger_of(root, batches[0], tmp_path / "copies")
    assert len(after) == 32
    for sha256 in after.keys() - before.keys():
        original = next(row for row in before.values() if row.sha256.startswith(Path(after[sha256].name).stem))
        assert (original.group, original.split, original.fold) == (
            after[sha256].group,
            after[sha256].split,
            after[sha256].fold,
        )


@pytest.mark.parametrize("side", [TEST, TRAIN])
def test_a_newcomer_between_two_groups_is_kept_out(tmp_path: Path, batches: list[Path], side: str) -> None:
    """A picture that is a near-duplicate of two groups is excluded, and moves neither: also where both are learnt from
    in one fold today, because a cross-validation would test on one of them."""
    root = tmp_path / "root"
    before = ledger_of(root, batches[0])
    inbox = tmp_path / "inbox/rain"
    inbox.mkdir(parents=True)
    rain = [row for row in before.values() if row.label == "rain"]
    one = next(row for row in rain if row.split == TRAIN)
    fold = one.fold if side == TRAIN else -1
    other = next(row for row in rain if (row.split, row.fold) == (side, fold) and row is not one)
    # A chain of blends from one to the other ties both groups: each link is near its neighbours.
    ends = [np.asarray(Image.open(root / "data/raw" / row.path)).astype(float) for row in (one, other)]
    for n in range(1, 40):
        mixed = ends[0] + (ends[1] - ends[0]) * n / 40
        Image.fromarray(mixed.round().astype(np.uint8)).save(inbox / f"{n}.png")
    after = ledger_of(root, batches[0], tmp_path / "inbox")
    assert before.items() <= after.items()
    assert {after[sha256].split for sha256 in after.keys() - before.keys()} == {EXCLUDED}
