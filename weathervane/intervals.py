"""What a table of predictions is worth: every measure, with its 95 % interval."""

from typing import TYPE_CHECKING

import numpy as np

from weathervane.bootstrap import blocks, mean_interval, resamples, share_interval
from weathervane.measures import BINS, FLOOR, Answers, Z, bins, ends, measures

if TYPE_CHECKING:
    import pandas as pd


def scores(table: "pd.DataFrame", classes: list[str]) -> dict[str, float]:
    """Every measure of `weathervane.measures`, and accuracy_low and accuracy_high."""
    found = {
        name: float(value) for name, (value,) in measures(Answers.of(table, classes), np.ones((1, len(table)))).items()
    }
    low, high = share_interval(found["accuracy"], table["group"].to_numpy())
    return found | {"accuracy_low": low, "accuracy_high": high}


def intervals(table: "pd.DataFrame", classes: list[str]) -> dict[str, float]:
    """95 % intervals of every score, by the names of `ends`; near-duplicates are no new evidence in them.

    Shares of images (accuracy, recall, precision) have Wilson's interval of as many images as the groups are
    worth; it has a width at 100 %, too. For the rest groups are drawn, within their class, as the split drew them:
    averages over classes (balanced accuracy, F1, ROC) have Wilson's interval with that spread, the log loss the
    normal one of its logarithm. Drawing adds to the calibration error, and chance alone does: its upper end is that
    of the draws, its lower end takes off what chance gives a calibrated model. These two ends are cautious.
    """
    label, group = table["label"].to_numpy(), table["group"].to_numpy()
    value, answers = scores(table, classes), Answers.of(table, classes)
    parts = [measures(answers, weights) for weights in resamples(label, group)]
    found: dict[str, float] = {}
    for name in parts[0]:
        kind, _, one = name.partition("/")
        own = table["predicted" if kind == "precision" else "label"].to_numpy() == one if one else label == label
        drawn = np.concatenate([part[name] for part in parts])
        if kind in ("accuracy", "recall", "precision"):
            low, high = share_interval(value[name], group[own])
        elif kind == "ece":
            low, high = max(value[name] - _by_chance(answers, group), 0.0), max(value[name], np.percentile(drawn, 97.5))
        elif kind == "log_loss":
            low, high = value[name] * np.exp(np.array([-Z, Z]) * np.log(drawn.clip(FLOOR)).std())
        else:
            low, high = mean_interval(value[name], drawn, label[own], group[own])
        found |= zip(ends(name), (float(low), float(high)), strict=True)
    return found


def _by_chance(answers: Answers, group: np.ndarray) -> float:
    """A calibration error that 2.5 % of calibrated models exceed on so many images, with these probabilities.

    By labels drawn from the probabilities, one draw a group (Bröcker & Smith 2007, Weather and Forecasting 22, 651).
    """
    groups, of_image = np.unique(group, return_inverse=True)
    confidence, rng = answers.probability.max(1), np.random.default_rng(0)
    inside = bins(answers.probability)[:, None] == np.arange(BINS)
    drawn = (rng.random((draws, len(groups)))[:, of_image] < confidence for draws in blocks(len(answers)))
    errors = [np.abs((right - confidence) @ inside).sum(1) / len(answers) for right in drawn]
    return float(np.percentile(np.concatenate(errors), 97.5))
