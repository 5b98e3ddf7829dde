"""Out-of-sample probabilities from a model's features, and whose label they speak against."""

import warnings

import numpy as np
import pytest
import torch

from benchmarks.drills.kill import small
from weathervane.features import store_features
from weathervane.model import Model, Spec, build
from weathervane.models import FAMILIES
from weathervane.store import Store
from weathervane.suspects import doubted, out_of_sample, suspects


def untrained(store: Store, family: str, flip_test: bool = True) -> Model:
    torch.manual_seed(0)
    spec = Spec(family, family, small(family).network, 32, store.size, store.classes, flip_test)
    return Model(build(spec), spec, torch.device("cpu"))


def clouds(per_class: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points round a corner of their own for each class; features and labels."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), per_class)
    return np.eye(classes)[label] + rng.normal(0, spread, (len(label), classes)), label


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("flip_test", [True, False])
def test_features_are_what_the_logits_are_made_of(
    store: Store, family: str, flip_test: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every family, the features are the input of the layer that gives the logits, also of images that go through
    the network in several blocks; the model is as it was after."""
    model = untrained(store, family, flip_test)
    monkeypatch.setattr("weathervane.model.eval_batch_size", lambda net, size: 7)
    found = store_features(model, store)[1]
    last = [module for module in model.net.modules() if isinstance(module, torch.nn.Linear)][-1]
    made = last(torch.from_numpy(found)).detach()
    rows = np.arange(len(store.manifest["label"]))
    assert found.dtype == np.float32 and len(found) == len(rows)
    assert torch.allclose(made, model.logits(store.pixels(rows)), atol=1e-5)
    assert not last._forward_pre_hooks


def test_nobody_is_judged_by_their_own_label() -> None:
    """Where features tell one image from another, but say nothing of the class, its own label must not come back."""
    label = np.arange(100) % 2
    found = out_of_sample(np.eye(100), label, np.arange(100))
    assert np.abs(found - 0.5).max() < 0.1
    assert np.allclose(found.sum(1), 1)


def test_nobody_is_judged_by_a_near_duplicate() -> None:
    """Copies that have one thing in common and the same wrong label do not vouch for each other."""
    x, label = clouds(20, 2, 0.1)
    label[:8], group = 1, np.arange(40)
    x = np.column_stack([x, 4.0 * (np.arange(40) < 8)])
    assert (out_of_sample(x, label, group)[:8, 0] < 0.5).all()
    group[:8] = 0
    assert (out_of_sample(x, label, group)[:8, 0] > 0.5).all()


def test_few_images_and_large_groups_are_no_error() -> None:
    """A class that is one single group, or has fewer images than there are folds, keeps its labels."""
    x, label = clouds(20, 3, 0.1)
    group = np.arange(60)
    group[label == 2] = 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (doubted(out_of_sample(x, label, group), label) == label)[label == 2].all()
        few = np.r_[0:3, 20:40]
        assert (doubted(out_of_sample(x[few], label[few], group[few]), label[few]) == label[few]).all()
        two = np.r_[0:20, 40:60]
        alone = np.where(label[two] == 2, 1, 0)
        assert (doubted(out_of_sample(x[two], alone, group[two]), alone) == alone).all()


def test_wrong_labels_are_doubted_and_right_ones_are_not() -> None:
    """Of 400 labels, 0 or 60 wrong, few images between the classes: most of the wrong ones are doubted, with the
    right class beside them, and few others."""
    x, truth = clouds(100, 4, 0.25)
    rng, group = np.random.default_rng(1), np.arange(400)
    for wrong in (0, 60):
        label, flipped = truth.copy(), rng.choice(400, wrong, replace=False)
        label[flipped] = (truth[flipped] + rng.integers(1, 4, wrong)) % 4
        suggested = doubted(out_of_sample(x, label, group), label)
        assert (suggested[flipped] == truth[flipped]).sum() >= 0.8 * wrong
        assert (suggested != label).sum() <= wrong + 10


def test_a_hard_class_is_not_doubted_wholesale() -> None:
    """Where a class's own images are given 0.4, another class's being given 0.6 is no reason; 0.97 is."""
    easy, hard = np.tile([0.9, 0.1], (50, 1)), np.tile([0.6, 0.4], (50, 1))
    hard[:5] = [0.97, 0.03]
    suggested = doubted(np.concatenate([easy, hard]), np.repeat([0, 1], 50))
    assert suggested.tolist() == [0] * 55 + [1] * 45


def test_the_table_starts_with_the_most_suspicious(store: Store) -> None:
    """Every row names an image with its label, another class that is more probable, and by how much."""
    table = suspects(untrained(store, "cnn"), store)
    assert 0 < len(table) < len(store.manifest["label"])
    assert table["score"].is_monotonic_decreasing and (table["score"] > 0).all()
    assert np.allclose(table["score"], table["p_suggested"] - table["p_label"])
    assert (table["label"] != table["suggested"]).all() and set(table["suggested"]) <= set(store.classes)
    held = dict(zip(store.manifest["sha256"], store.manifest["label"], strict=True))
    assert [held[sha] for sha in table["sha256"]] == table["label"].tolist()
