"""Measures under many weightings: each is its reference implementation's, for every weighting."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from weathervane.measures import Answers, bins, calibration_error, measures

CLASSES = ["cloudy", "rain", "shine"]


def random_table(n: int = 300) -> pd.DataFrame:
    """Right more often than not, with ties among probabilities."""
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, n, p=[0.6, 0.3, 0.1])
    shares = rng.dirichlet([1, 1, 1], n) + 0.7 * (labels[:, None] == np.array(CLASSES))
    shares = (shares / shares.sum(1, keepdims=True)).round(2)
    shares[:, 2] = 1 - shares[:, :2].sum(1)
    columns = {f"p_{label}": shares[:, number] for number, label in enumerate(CLASSES)}
    return pd.DataFrame({"label": labels, "predicted": np.array(CLASSES)[shares.argmax(1)]} | columns)


def test_every_measure_is_scikit_learns_under_every_weighting() -> None:
    """Images drawn 0 to 3 times count so often: six random weightings and ones, each in a row of its own."""
    table = random_table()
    weights = np.vstack([np.ones(len(table)), np.random.default_rng(1).integers(0, 4, (6, len(table)))]).astype(float)
    found = measures(Answers.of(table, CLASSES), weights)
    label, said = table["label"], table["predicted"]
    shares = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    for row, weight in enumerate(weights):
        expected = {
            "accuracy": metrics.accuracy_score(label, said, sample_weight=weight),
            "balanced_accuracy": metrics.balanced_accuracy_score(label, said, sample_weight=weight),
            "macro_f1": metrics.f1_score(label, said, average="macro", sample_weight=weight),
            "log_loss": metrics.log_loss(label, shares, labels=CLASSES, sample_weight=weight),
        }
        areas = [metrics.roc_auc_score(label == name, table[f"p_{name}"], sample_weight=weight) for name in CLASSES]
        expected["roc_auc"] = np.mean(areas)
        report = metrics.classification_report(label, said, output_dict=True, sample_weight=weight)
        for name in CLASSES:
            for kind, theirs in {"precision": "precision", "recall": "recall", "f1": "f1-score"}.items():
                expected[f"{kind}/{name}"] = report[name][theirs]
        assert set(found) == {*expected, "ece"}
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-9), (name, row)


def test_the_calibration_error_by_hand() -> None:
    """Two bins: 0.95 stated and 1 of 2 right, 0.55 stated and 2 of 2 right: (2 × 0.45 + 2 × 0.45) / 4."""
    sure = [0.95, 0.95, 0.55, 0.55]
    labels, said = ["a", "b", "b", "b"], ["a", "a", "b", "b"]
    p_a = [share if one == "a" else 1 - share for one, share in zip(said, sure, strict=True)]
    table = pd.DataFrame({"label": labels, "predicted": said, "p_a": p_a, "p_b": 1 - np.array(p_a)})
    answers = Answers.of(table, ["a", "b"])
    assert bins(answers.probability).tolist() == [9, 9, 5, 5]
    assert calibration_error(answers, np.array([[1.0, 1, 1, 1], [1, 0, 0, 0]])) == pytest.approx([0.45, 0.05])


def test_honest_probabilities_have_little_calibration_error() -> None:
    """Labels drawn from the stated probabilities: below 0.01 at n = 50,000; twice as sure: far above."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1, 1], 50_000)
    labels = (rng.random(50_000)[:, None] > shares.cumsum(1)).sum(1)
    honest = Answers(CLASSES, labels, shares.argmax(1), shares)
    sharp = shares**2 / (shares**2).sum(1, keepdims=True)
    overconfident = Answers(CLASSES, labels, shares.argmax(1), sharp)
    one = np.ones((1, 50_000))
    assert measures(honest, one)["ece"][0] < 0.01
    assert measures(overconfident, one)["ece"][0] > 0.08


def test_a_class_that_nobody_asked_about_is_a_mistake() -> None:
    """A model that says a class outside of those asked about is wrong, and no class's precision suffers."""
    table = pd.DataFrame({"label": ["a", "b"], "predicted": ["a", "snow"], "p_a": [0.6, 0.1], "p_b": [0.1, 0.2]})
    found = measures(Answers.of(table, ["a", "b"]), np.ones((1, 2)))
    assert found["accuracy"][0] == 0.5
    assert (found["precision/a"][0], found["recall/b"][0]) == (1, 0)


def test_where_there_is_one_class_there_is_no_roc() -> None:
    """Nothing can be told apart: no value is made up, and there is no warning either."""
    table = random_table()
    table = table[table["label"] == "rain"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measures(Answers.of(table, CLASSES), np.ones((1, len(table))))
    assert "roc_auc" not in found
    assert found["balanced_accuracy"][0] == found["recall/rain"][0]
