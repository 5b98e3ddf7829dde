"""Measures of a table of predictions under many weightings at once: what the bootstrap needs, in matrix products.

Legend: N = images, K = classes, B = weightings. One weighting of ones gives the measures of the table itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BINS = 10  # of the calibration error, equally wide
Z = 1.959964  # the normal distribution holds 95 % within so many standard deviations
FLOOR = 1e-12  # the smallest probability that the log loss believes


def ends(name: str) -> tuple[str, str]:
    """What the ends of a measure's interval are called; before the slash, for a class may be called `cloud_low`."""
    kind, slash, label = name.partition("/")
    return f"{kind}_low{slash}{label}", f"{kind}_high{slash}{label}"


@dataclass(frozen=True)
class Answers:
    """A table of predictions as arrays; `predicted` is K where a model said a class that is not asked about."""

    classes: list[str]
    label: np.ndarray  # int64 [N], 0..K-1
    predicted: np.ndarray  # int64 [N], 0..K
    probability: np.ndarray  # float64 [N, K]

    @classmethod
    def of(cls, table: "pd.DataFrame", classes: list[str]) -> "Answers":
        """The table's columns label, predicted and p_<class>.

        Raises:
            KeyError: a label that is none of the classes.
        """
        number = {label: n for n, label in enumerate(classes)}
        return cls(
            classes,
            np.array([number[label] for label in table["label"]], np.int64),
            np.array([number.get(label, len(classes)) for label in table["predicted"]], np.int64),
            table[[f"p_{label}" for label in classes]].to_numpy(np.float64),
        )

    def __len__(self) -> int:
        return len(self.label)

    @property
    def correct(self) -> np.ndarray:
        """bool [N]."""
        return self.predicted == self.label

    @property
    def log_losses(self) -> np.ndarray:
        """float64 [N], nats."""
        return -np.log(self.probability[np.arange(len(self)), self.label].clip(FLOOR))


def measures(answers: Answers, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Name → values [B] under each row of `weights` (float64 [B, N]).

    accuracy, balanced_accuracy (over the classes that occur), macro_f1 (over all classes), log_loss (nats),
    precision/<class>, recall/<class>, f1/<class>, 0 where there is nothing to divide by; ece (calibration error);
    roc_auc (macro, one against the rest; absent where nothing can be told apart).
    """
    k = len(answers.classes)
    total = weights.sum(1)
    own, told = np.eye(k)[answers.label], np.eye(k + 1)[answers.predicted, :k]
    occurs, said, right = weights @ own, weights @ told, weights @ (own * told)
    recall, precision, f1 = _ratio(right, occurs), _ratio(right, said), _ratio(2 * right, occurs + said)
    found = {
        "accuracy": right.sum(1) / total,
        "balanced_accuracy": recall.sum(1) / (occurs > 0).sum(1),
        "macro_f1": f1.mean(1),
        "log_loss": weights @ answers.log_losses / total,
    }
    for number, label in enumerate(answers.classes):
        found |= {f"precision/{label}": precision[:, number], f"recall/{label}": recall[:, number]}
        found[f"f1/{label}"] = f1[:, number]
    found["ece"] = calibration_error(answers, weights)
    areas = (roc_area(answers, number, weights) for number in range(k))
    if of_class := [area for area in areas if area is not None]:
        found["roc_auc"] = np.mean(of_class, axis=0)
    return found


def bins(probability: np.ndarray) -> np.ndarray:
    """The bin, 0..BINS-1, of the largest probability of each row of [N, K]."""
    return (probability.max(1) * BINS).astype(np.int64).clip(0, BINS - 1)


def calibration_error(answers: Answers, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error [B]: how far stated confidence and accuracy lie apart, averaged over bins."""
    inside = bins(answers.probability)[:, None] == np.arange(BINS)
    excess = answers.correct - answers.probability.max(1)
    return np.abs(weights @ (excess[:, None] * inside)).sum(1) / weights.sum(1)


def roc_area(answers: Answers, number: int, weights: np.ndarray) -> np.ndarray | None:
    """Area under a class's ROC curve [B]: how often its probability is higher on its own images than on others.

    None where the class has no image, or every image is of it.
    """
    order = np.argsort(answers.probability[:, number], kind="stable")
    score, own = answers.probability[order, number], answers.label[order] == number
    if own.all() or not own.any():
        return None
    weights = weights[:, order]
    others = np.pad((weights * ~own).cumsum(1), ((0, 0), (1, 0)))
    below, up_to = others[:, np.searchsorted(score, score[own])], others[:, np.searchsorted(score, score[own], "right")]
    mine = weights[:, own]
    return (mine * (below + up_to)).sum(1) / (2 * mine.sum(1) * others[:, -1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def holm(ps: list[float]) -> list[float]:
    """Each p as it counts among all of them (Holm 1979): 0.05 is then the risk of any false finding in the table."""
    order = np.argsort(ps)
    raised = np.array(ps)[order] * (len(ps) - np.arange(len(ps)))
    found = np.empty(len(ps))
    found[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(p) for p in found]


def wilson(right: float, n: float) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927): stays inside 0-1 and has a width even at 100 %."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = right / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)
