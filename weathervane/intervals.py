"""What a table of predictions is worth: every measure, with its 95 % interval."""

from typing import TYPE_CHECKING

import numpy as np

from weathervane.bootstrap import blocks, effective_size, mean_interval, resamples, share_interval
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
    normal one of its logarithm. The calibration error's is cautious: drawing adds to it, and chance alone does, so the
    upper end is that of the draws, and no less than what the accuracy may be off the mean probability; the lower end
    takes off what chance gives a calibrated model.
    """
    label, group = table["label"].to_numpy(), table["group"].to_numpy()
    value, answers = scores(table, classes), Answers.of(table, classes)
    parts = [measures(answers, weights) for weights in resamples(label, group)]
    found: dict[str, float] = {}
    for name in parts[0]:
        kind, _, one = name.partition("/")
        column = table["predicted" if kind == "precision" else "label"].to_numpy()
        own = column == one if one else np.ones(len(label), bool)
        drawn = np.concatenate([part[name] for part in parts])
        if kind in ("accuracy", "recall", "precision"):
            low, high = share_interval(value[name], group[own])
        elif kind == "ece":
            confidence = answers.probability.max(1).mean()
            off = max(abs(confidence - end) for end in share_interval(value["accuracy"], group))
            low, high = max(value[name] - _by_chance(answers, group), 0.0), max(np.percentile(drawn, 97.5), off)
        elif kind == "log_loss":
            low, high = value[name] * np.exp(np.array([-Z, Z]) * np.log(drawn.clip(FLOOR)).std())
        else:
            worths = _areas_worth(label, group) if kind == "roc_auc" else _worths(label[own], group[own])
            low, high = mean_interval(value[name], drawn, worths)
        found |= zip(ends(name), (float(low), float(high)), strict=True)
    return found


def _worths(label: np.ndarray, group: np.ndarray) -> list[float]:
    return [effective_size(group[label == one]) for one in np.unique(label)]


def _areas_worth(label: np.ndarray, group: np.ndarray) -> list[float]:
    """Of each class's area under the ROC curve, which varies no more than a share of its images, or of the others if
    they are fewer, would (Birnbaum & Klose 1957); the areas of two classes are one and the same."""
    found = [min(effective_size(group[label == one]), effective_size(group[label != one])) for one in np.unique(label)]
    return found[:1] if len(found) == 2 else found


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
