"""The figures of a cross-validation: against others' formulas, against the truth, and as a table."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from weathervane.crossval import about, leader, markdown, pooled
from weathervane.measures import holm, wilson

CLASSES = ["cloudy", "rain", "shine"]


def said(accuracy: float, seed: int, groups: int = 60, members: int = 1) -> pd.DataFrame:
    """A model's predictions of `groups` groups of images that are alike: all right or all wrong."""
    rng = np.random.default_rng(seed)
    label = np.arange(groups) % 3
    predicted = np.where(rng.random(groups) < accuracy, label, (label + 1) % 3)
    shares = rng.dirichlet(np.ones(3), groups)
    shares[np.arange(groups), predicted] += 1
    table = pd.DataFrame(shares / 2, columns=[f"p_{name}" for name in CLASSES])
    table["label"], table["predicted"] = (np.array(CLASSES)[which] for which in (label, predicted))
    table["group"] = [f"g{number:04}" for number in range(groups)]
    table = table.loc[table.index.repeat(members)].reset_index(drop=True)
    return table.assign(sha256=[f"{number:06x}" for number in range(len(table))])


def test_pooled_figures_are_those_of_the_table() -> None:
    """Accuracy, macro-F1 and log loss are scikit-learn's of all predictions together; the best variant comes first;
    every figure is inside its interval; the order of the images means nothing."""
    tables = {"poor": said(0.5, 1), "good": said(0.9, 2)}
    rows, (pair,) = pooled(tables, CLASSES)
    assert [row["variant"] for row in rows] == ["good", "poor"]
    for row in rows:
        table = tables[row["variant"]]
        assert row["accuracy"] == pytest.approx(accuracy_score(table["label"], table["predicted"]))
        assert row["macro_f1"] == pytest.approx(f1_score(table["label"], table["predicted"], average="macro"))
        assert row["log_loss"] == pytest.approx(log_loss(table["label"], table[[f"p_{c}" for c in CLASSES]]))
        assert all(
            row[f"{name}_low"] < row[name] < row[f"{name}_high"] for name in ("accuracy", "macro_f1", "log_loss")
        )
    assert (pair["variant"], pair["other"]) == ("good", "poor")
    assert pair["accuracy"] == pytest.approx(rows[0]["accuracy"] - rows[1]["accuracy"])
    assert pair["accuracy_low"] < pair["accuracy"] < pair["accuracy_high"]
    mixed = {name: table.sample(frac=1, random_state=3) for name, table in tables.items()}
    assert pooled(mixed, CLASSES) == (rows, [pair])
    assert pooled({"good": tables["good"]}, CLASSES) == (rows[:1], [])


def test_pairs_are_tested_on_their_groups() -> None:
    """The p of a pair is the exact binomial one of the groups that one of the two alone has right, so three copies of
    every photograph make no evidence; equal models may differ by what none among so many groups can hide."""
    once, thrice = (
        pooled({"a": said(0.9, 1, members=n), "b": said(0.7, 2, members=n), "c": said(0.9, 1, members=n)}, CLASSES)[1]
        for n in (1, 3)
    )
    tables = said(0.9, 1), said(0.7, 2)
    right = [table["label"] == table["predicted"] for table in tables]
    gained, lost = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    by_pair = {(pair["variant"], pair["other"]): pair for pair in once}
    assert (by_pair["a", "b"]["gained"], by_pair["a", "b"]["lost"]) == (gained, lost)
    assert by_pair["a", "b"]["p"] == pytest.approx(binomtest(gained, gained + lost).pvalue)
    equal, hidden = by_pair["a", "c"], wilson(0, 60)[1]
    assert (equal["accuracy"], equal["p"]) == (0, 1)
    assert (equal["accuracy_low"], equal["accuracy_high"]) == pytest.approx((-hidden, hidden))
    told = ("variant", "other", "gained", "lost", "p", "p_holm", "accuracy", "accuracy_low", "accuracy_high")
    for one, three in zip(once, thrice, strict=True):
        assert {key: one[key] for key in told} == pytest.approx({key: three[key] for key in told})


@pytest.mark.parametrize(
    ("ps", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # R 4: p.adjust(c(0.01, 0.04, 0.03), "holm")
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_is_the_published_correction(ps: list[float], expected: list[float]) -> None:
    """Each p times the number of those that are not smaller, never falling, at most 1."""
    assert holm(ps) == pytest.approx(expected)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 100 simulated cross-validations of two models with photographs taken three times, 88 to 99 of the 95 %
    intervals hold the true accuracy, and the true difference; drawn by image, fewer than 85 would."""
    held = {"accuracy": 0, "difference": 0, "drawn by image": 0}
    for seed in range(100):
        tables = {"a": said(0.9, 2 * seed, 60, 3), "b": said(0.8, 2 * seed + 1, 60, 3)}
        rows, (pair,) = pooled(tables, CLASSES)
        (row,) = (row for row in rows if row["variant"] == "a")
        difference = sorted((1 if pair["variant"] == "a" else -1) * pair[f"accuracy_{end}"] for end in ("low", "high"))
        apart, _ = pooled({"a": tables["a"].assign(group=tables["a"]["sha256"])}, CLASSES)
        held["accuracy"] += row["accuracy_low"] <= 0.9 <= row["accuracy_high"]
        held["difference"] += difference[0] <= 0.1 <= difference[1]
        held["drawn by image"] += apart[0]["accuracy_low"] <= 0.9 <= apart[0]["accuracy_high"]
    assert 88 <= held["accuracy"] <= 99
    assert 88 <= held["difference"] <= 99
    assert held["drawn by image"] < 85


def test_where_nothing_is_wrong_the_interval_has_a_width() -> None:
    """A variant that is always right is not certain to be always right."""
    (row,), _ = pooled({"a": said(1.0, 1)}, CLASSES)
    for share in ("accuracy", "macro_f1"):
        assert row[share] == row[f"{share}_high"] == 1 and 0.9 < row[f"{share}_low"] < 1


def recorded(**changes: Any) -> dict[str, Any]:
    """What crossval.json says of two variants, of which one failed, or of two that did not."""
    rows, pairs = pooled({"a": said(0.9, 1), "b": said(0.7, 2)}, CLASSES)
    for row in rows:
        row |= {"seconds": 90.4, "parameters": 1234567, "machine": "AMD EPYC, 2 cores"}
        row |= {"precision": "bfloat16" if row["variant"] == "a" else "float32"}
    about = {"dataset": "weather", "data_md5": "1.dir", "images": 60, "groups": 60, "folds": 5, "seed": 0, "share": 1.0}
    about |= {"draws": 2000, "command": "weathervane crossval", "date": "2026-11-25", "failed": {}}
    return about | {"rows": rows, "pairs": pairs} | changes


def test_the_table_says_how_it_was_measured() -> None:
    """In Markdown: a line a variant and a pair, then images, groups, folds, seed, command, machine, date and data."""
    record = recorded()
    lines = markdown(record).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert [len(line) for line in cells] == [6, 6, 6, 5, 5]
    row = record["rows"][0]
    assert cells[1] == [
        "a",
        f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}–{row['accuracy_high']:.3f})",
        f"{row['macro_f1']:.3f}",
        f"{row['log_loss']:.3f}",
        "90",
        "1,234,567",
    ]
    assert cells[4][0] == "a − b"
    told = ("60 images in 60 groups", "5 folds, seed 0", "2,000 draws", "`weathervane crossval`, AMD EPYC, 2 cores, ")
    assert all(words in lines[-1] for words in (*told, "2026-11-25", "data 1.dir"))
    assert "2 cores, bfloat16, b in float32, 2026-11-25" in lines[-1]
    assert "training groups" not in lines[-1] and "Holm" not in lines[-1]
    assert "from 25% of the training groups" in about(recorded(share=0.25))
    assert "Holm" in about(recorded(pairs=record["pairs"] * 3))


def test_the_best_variant_is_told_with_those_that_are_not_told_from_it() -> None:
    """The one with the best accuracy, and whom the votes do not tell from it; nobody is called best on no evidence."""
    alike, apart = (recorded(pairs=[recorded()["pairs"][0] | {"p_holm": p}]) for p in (0.05, 0.049))
    best, other = alike["rows"][0], alike["pairs"][0]["other"]
    told = f"{best['variant']} has the best accuracy, {best['accuracy']:.3f}"
    assert leader(alike) == f"{told}, not told apart from {other}"
    assert leader(apart) == told
    none = recorded(rows=[], pairs=[])
    assert leader(none) == "no variant could be trained" and "`weathervane crossval`, 2026-11-25, data" in about(none)


def test_the_table_names_what_failed() -> None:
    """A variant that failed is in the table with the reason, also where all did."""
    failed = {"c": "loss is nan"}
    assert "| c | failed: loss is nan |  |  |  |  |" in markdown(recorded(failed=failed)).splitlines()
    assert markdown(recorded(failed=failed, rows=[], pairs=[])).splitlines()[2:] == [
        "| c | failed: loss is nan |  |  |  |  |"
    ]
