"""Measures of a table of predictions and their intervals."""

import math

import numpy as np
import pandas as pd
import pytest

from weathervane.bootstrap import resamples, share_interval
from weathervane.intervals import intervals, scores
from weathervane.measures import ends, wilson

CLASSES = ["cloudy", "rain", "shine"]


def table(labels: list[str], predicted: list[str], classes: list[str] = CLASSES) -> pd.DataFrame:
    """Predictions with 0.7 for the predicted class."""
    rest = 0.3 / (len(classes) - 1)
    shares = {f"p_{label}": [0.7 if label == one else rest for one in predicted] for label in classes}
    return pd.DataFrame({"label": labels, "predicted": predicted, "group": np.arange(len(labels)).astype(str)} | shares)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # the first four: Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0000),
        (0, 10, 0.0000, 0.2775),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_gives_the_published_intervals(right: int, n: int, low: float, high: float) -> None:
    """The 95 % interval of a share is the one in the literature, to four digits."""
    assert wilson(right, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_is_the_score_test_turned_round() -> None:
    """Each limit is a share p for which the observed one lies exactly z standard errors away."""
    for right, n in ((3, 7), (90, 100), (199, 200)):
        for limit in wilson(right, n):
            assert abs(right / n - limit) == pytest.approx(1.959964 * math.sqrt(limit * (1 - limit) / n), rel=1e-9)


def test_wilson_stays_a_share() -> None:
    """Never below 0 or above 1, around the share, narrower with more images; without images it says nothing."""
    assert wilson(0, 0) == (0.0, 1.0)
    for n in (1, 2, 10, 1000):
        for right in {0, n // 2, n}:
            low, high = wilson(right, n)
            assert 0 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1
    assert np.diff(wilson(900, 1000)) < np.diff(wilson(90, 100)) < np.diff(wilson(9, 10))


def random_table(n: int, right: float, seed: int = 0, members: int = 1) -> pd.DataFrame:
    """n groups of as many images each, alike in label and prediction; a share `right` of them is right."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n)
    others = np.array([rng.choice([c for c in CLASSES if c != label]) for label in labels])
    predicted = np.where(rng.random(n) < right, labels, others)
    made = table(list(labels.repeat(members)), list(predicted.repeat(members)))
    return made.assign(group=np.arange(n).repeat(members).astype(str))


def test_a_share_of_independent_images_has_wilsons_interval() -> None:
    """500 images that are no duplicates of each other: the textbook's interval, for accuracy, recall and precision."""
    some = random_table(500, 0.9)
    found, around = scores(some, CLASSES), intervals(some, CLASSES)
    right = int((some["label"] == some["predicted"]).sum())
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx(wilson(right, 500))
    assert (around["accuracy_low"], around["accuracy_high"]) == (found["accuracy_low"], found["accuracy_high"])
    for label in CLASSES:
        mine, said = some["label"] == label, some["predicted"] == label
        expected = wilson((mine & said).sum(), mine.sum()) + wilson((mine & said).sum(), said.sum())
        names = [f"{kind}_{end}/{label}" for kind in ("recall", "precision") for end in ("low", "high")]
        assert [around[name] for name in names] == pytest.approx(expected)


def test_copies_are_no_evidence() -> None:
    """Every image there three times over: no interval gets narrower than it was (2 % for the luck of the draws)."""
    once, thrice = (intervals(random_table(150, 0.85, members=n), CLASSES) for n in (1, 3))
    names = {name for name in scores(random_table(150, 0.85), CLASSES) if ends(name)[0] in once}
    assert len(names) == 6 + 3 * len(CLASSES) == len(once) / 2
    for name in names:
        low, high = ends(name)
        widths = [found[high] - found[low] for found in (once, thrice)]
        assert widths[1] == pytest.approx(widths[0], rel=0.02, abs=1e-6), name


def test_the_accuracys_interval_counts_copies_once() -> None:
    """Of 50 photographs that are each there three times, `scores` gives the accuracy the interval of 50."""
    found = scores(random_table(50, 0.9, members=3), CLASSES)
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx(wilson(50 * found["accuracy"], 50))


def test_unequal_groups_count_by_their_effective_size() -> None:
    """One group of 10 and ten of 1 are worth 20² / (100 + 10) images; groups of one are worth what they are."""
    group = np.array(["copy"] * 10 + [f"own {number}" for number in range(10)])
    assert share_interval(0.5, group) == pytest.approx(wilson(0.5 * 400 / 110, 400 / 110))
    assert share_interval(0.9, np.arange(50)) == pytest.approx(wilson(45, 50))
    assert share_interval(0.0, np.array([])) == (0.0, 1.0)


def test_a_group_with_two_labels_counts_for_both() -> None:
    """A class all of whose images are near-duplicates of another class's is in every draw; every interval is one."""
    some = table(["cloudy"] * 20 + ["rain", "rain"] + ["shine"] * 20, ["cloudy"] * 21 + ["rain"] + ["shine"] * 20)
    group = some["group"].to_numpy()
    group[20:22] = group[0], group[1]
    for weights in resamples(some["label"].to_numpy(), group):
        assert (weights[:, 20:22].sum(1) == 2).all() and (weights.sum(1) >= 40).all()
    found = intervals(some.assign(group=group), CLASSES)
    assert all(found[name] >= 0 for name in found) and found["recall_low/rain"] < 0.5 < found["recall_high/rain"]


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 100 test sets of 100 pairs of copies, 90 to 99 have the true value in each interval: that of 90 % right.

    The log loss's truth is that of the table's two probabilities, 0.7 and 0.15.
    """
    truth = {"accuracy": 0.9, "balanced_accuracy": 0.9, "macro_f1": 0.9, "recall/rain": 0.9}
    truth["log_loss"] = -(0.9 * math.log(0.7) + 0.1 * math.log(0.15))
    sets = [intervals(random_table(100, 0.9, seed, members=2), CLASSES) for seed in range(100)]
    for name, value in truth.items():
        low, high = ends(name)
        held = sum(found[low] <= value <= found[high] for found in sets)
        assert 90 <= held <= 99, (name, held)


def test_a_model_that_is_sure_and_right_may_still_be_off() -> None:
    """60 of 60 right with probabilities of 1: its calibration error is 0 here, and may be what 60 images can hide."""
    some = random_table(60, 1.0)
    sure = some.assign(**{f"p_{label}": (some["label"] == label).astype(float) for label in CLASSES})
    found = intervals(sure, CLASSES)
    assert found["ece_low"] == 0 and found["ece_high"] == pytest.approx(1 - wilson(60, 60)[0])


def test_the_area_of_two_classes_is_one_area() -> None:
    """Five images of one class that are told from 100 of the other: as much as five can say, not ten."""
    label = np.array(["rain"] * 5 + ["shine"] * 100)
    some = table(list(label), list(label), ["rain", "shine"])
    found = intervals(some, ["rain", "shine"])
    assert (found["roc_auc_low"], found["roc_auc_high"]) == pytest.approx(wilson(5, 5))


@pytest.mark.parametrize("small", ["rain", "shine"])
def test_the_area_is_worth_the_smaller_class(small: str) -> None:
    """The area's interval is that of five images, whichever of the two classes has only five."""
    label = np.array([small] * 5 + [{"rain": "shine", "shine": "rain"}[small]] * 100)
    found = intervals(table(list(label), list(label), ["rain", "shine"]), ["rain", "shine"])
    assert (found["roc_auc_low"], found["roc_auc_high"]) == pytest.approx(wilson(5, 5))


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "right"), [((5, 10, 100), 0.98), ((8, 50, 50), 0.92), ((40, 40, 40), 0.95)])
def test_averages_over_unequal_classes_hold_their_truth(sizes: tuple[int, ...], right: float) -> None:
    """Of 200 test sets, at least 180 have the true value inside, also where a small class has no mistake: then draws of
    images alone would hold that of the balanced accuracy, the first time, in 100."""
    rng, label = np.random.default_rng(0), np.repeat(CLASSES, sizes)
    told = np.array([[c for c in CLASSES if c != one] for one in label])
    held = {"balanced_accuracy": 0, "roc_auc": 0}
    for _ in range(200):
        good = rng.random(len(label)) < right
        other = told[np.arange(len(label)), rng.integers(0, 2, len(label))]
        found = intervals(table(list(label), list(np.where(good, label, other))), CLASSES)
        held["balanced_accuracy"] += found["balanced_accuracy_low"] <= right <= found["balanced_accuracy_high"]
        # An own image scores 0.7 or 0.15 (right or not), another class's 0.15, and 0.7 at every second mistake.
        area = right * (1 - (1 - right) / 2) + 0.5 * (right * (1 - right) / 2 + (1 - right) * (1 - (1 - right) / 2))
        held["roc_auc"] += found["roc_auc_low"] <= area <= found["roc_auc_high"]
    assert min(held.values()) >= 180, held


def test_where_nothing_is_wrong_intervals_have_a_width() -> None:
    """20 of 20 right does not mean that all always will be: every share's low end is well below 1, none of them 0."""
    found = intervals(random_table(20, 1.0), CLASSES)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "f1/rain", "recall/rain", "precision/rain", "roc_auc"):
        low, high = ends(name)
        assert 0.4 < found[low] < 0.9 and found[high] == 1, name


def test_a_small_class_without_a_mistake_keeps_a_wide_interval() -> None:
    """Where all of a class's five images are right, beside 200 of another, its F1 may be as low as five can hide."""
    label = ["rain"] * 5 + ["shine"] * 200
    found = intervals(table(label, label, ["rain", "shine"]), ["rain", "shine"])
    assert (found["f1_low/rain"], found["f1_high/rain"]) == pytest.approx(wilson(5, 5))


def test_an_interval_surrounds_its_value_and_comes_again() -> None:
    """Low ≤ value ≤ high for every score; equal tables give equal intervals, whatever the order of rows."""
    some = random_table(80, 0.8)
    values, found = scores(some, CLASSES), intervals(some, CLASSES)
    for name, value in values.items():
        if not name.startswith("accuracy_"):
            low, high = ends(name)
            assert found[low] <= value + 1e-9 and value - 1e-9 <= found[high], name
    assert intervals(some, CLASSES) == found


def test_a_class_may_be_called_like_an_intervals_end() -> None:
    """`cloud_low` has a recall of its own: no name of an interval's end is that of a class's score."""
    classes = ["cloud", "cloud_high", "cloud_low"]
    some = table(["cloud"] * 9 + ["cloud_low"] * 9 + ["cloud_high"] * 9, ["cloud"] * 12 + ["cloud_low"] * 15, classes)
    values, found = scores(some, classes), intervals(some, classes)
    assert {name for name in values if name in found} == {"accuracy_low", "accuracy_high"}


def test_a_calibrated_models_interval_reaches_down_to_0() -> None:
    """Its measured error is above 0 by luck alone (n = 150), and drawing adds to it; the interval makes up for both, in
    19 of 20 test sets."""
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shares = rng.dirichlet([0.4, 0.4, 0.4], 150)
        labels = np.array(CLASSES)[(rng.random(150)[:, None] > shares.cumsum(1)).sum(1).clip(0, 2)]
        content = {"label": labels, "predicted": np.array(CLASSES)[shares.argmax(1)], "group": np.arange(150)}
        found = intervals(pd.DataFrame(content | {f"p_{c}": shares[:, n] for n, c in enumerate(CLASSES)}), CLASSES)
        held += found["ece_low"] == 0
    assert held >= 38


def test_scores_by_hand() -> None:
    """Four photographs: one rain taken for shine. Per class, not per photograph, counts for macro-F1."""
    found = scores(table(["rain", "rain", "shine", "cloudy"], ["rain", "shine", "shine", "cloudy"]), CLASSES)
    assert found["accuracy"] == 0.75
    assert (found["precision/rain"], found["recall/rain"]) == (1, 0.5)
    assert (found["precision/shine"], found["recall/shine"]) == (0.5, 1)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["log_loss"] == pytest.approx(-(3 * math.log(0.7) + math.log(0.15)) / 4)


@pytest.mark.filterwarnings("error")
def test_a_class_that_never_occurs_scores_0() -> None:
    """Neither predicted nor present: 0, without a warning, and it counts in macro-F1. The order of rows does not."""
    some = table(["rain", "shine", "rain"], ["rain", "rain", "rain"])
    found = scores(some, CLASSES)
    for kind in ("precision", "recall", "f1"):
        assert found[f"{kind}/cloudy"] == found[f"{kind}/shine"] == 0
    assert found["macro_f1"] == pytest.approx(0.8 / 3)
    assert scores(some.iloc[::-1], CLASSES) == pytest.approx(found)


def test_certainty_about_the_wrong_class_is_finite() -> None:
    """A probability of 0 for the true class gives a large log loss, not an infinite one."""
    sure = table(["rain"], ["shine"]).assign(p_rain=0.0, p_shine=1.0, p_cloudy=0.0)
    assert 20 < scores(sure, CLASSES)["log_loss"] < 30
