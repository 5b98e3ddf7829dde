"""Are photographs still like those that the model was trained on? Their own traits, and what the model makes of them.

Each trait is compared by the two-sample test of Kolmogorov and Smirnov, the mix of predicted classes by chi-square,
its p from drawn tables; Holm (1979) keeps the chance of any false alarm in a report at `false_alarms`. Photographs that
are near-duplicates of each other count once: a camera that looks at one sky all day is one witness. Legend: N = images,
D = features, M = images of the bank.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from pydantic import Field

from weathervane.measures import holm
from weathervane.params import Strict

if TYPE_CHECKING:
    import pandas as pd

Watched = Literal["brightness", "contrast", "saturation", "sharpness", "size", "classes", "confidence", "distance"]
WATCHED: tuple[Watched, ...] = get_args(Watched)
OF_MODEL = ("classes", "confidence", "distance")  # what a model says of images that it has learnt from is no measure
NEIGHBOUR = 5
TOLD = 8  # classes whose shares are told in a line
EXACTLY = 1000  # photographs in all, above which the exact distribution of a one-sided test is out of reach
DRAWS = 9999  # of tables, for the mix of classes
DISTANCES = 1 << 24  # between images and those of the bank, that are in memory at a time


class Monitor(Strict):
    """params/monitor.yaml."""

    source: str = Field(pattern=r"^[^\x00]*$")
    days: float = Field(ge=0, le=36500)
    false_alarms: float = Field(ge=0.001, lt=1)  # of DRAWS, no smaller p can come, Holm's factor included
    smallest: float = Field(ge=0, le=1)
    least: int = Field(ge=10)
    watch: list[Watched] = Field(min_length=1)


@dataclass(frozen=True)
class Finding:
    """One thing that was watched.

    Attributes:
        name: of WATCHED.
        difference: largest distance between the two distributions, 0-1; of classes, the total variation.
        p: chance of a difference like that if nothing changed, adjusted to how much was watched (Holm).
        before: median of the training data (of classes: the shares); after: of the new photographs.
        drifted: certain and large enough.
    """

    name: str
    difference: float
    p: float
    before: str
    after: str
    drifted: bool


@dataclass(frozen=True)
class Judged:
    """What came of a comparison.

    Attributes:
        decision: drift, no drift, or too few (photographs, for any finding).
        why: in words.
        findings: in the order of WATCHED.
    """

    decision: str
    why: str
    findings: list[Finding]

    @property
    def figures(self) -> dict[str, float]:
        """By the names that MLflow shows."""
        found = {f"drift/{one.name}": one.difference for one in self.findings}
        found |= {f"drift/{one.name}_p": one.p for one in self.findings}
        return found | {"drift/alarm": float(self.decision == "drift")}


class Bank:
    """Features of the images that the model was trained on.

    Distances are to the fifth-nearest of them, features scaled to length 1 (Sun et al. 2022, "Out-of-distribution
    detection with deep nearest neighbors"): 0 (alike) to 2.
    """

    def __init__(self, features: np.ndarray, neighbour: int = NEIGHBOUR) -> None:
        """Takes float32 [M, D]."""
        self._known, self._neighbour = l2_normalised(features), min(neighbour, len(features))

    def distances(self, features: np.ndarray) -> np.ndarray:
        """float32 [N, D] to float32 [N]."""
        parts = [np.empty(0, np.float32)]
        block = max(1, DISTANCES // len(self._known))
        for first in range(0, len(features), block):
            cosine = l2_normalised(features[first : first + block]) @ self._known.T
            nearest = np.partition(cosine, -self._neighbour, axis=1)[:, -self._neighbour]
            parts.append(np.sqrt(np.maximum(0, 2 - 2 * nearest)))
        return np.concatenate(parts)


def l2_normalised(features: np.ndarray) -> np.ndarray:
    """Each row scaled to length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def judge(before: "pd.DataFrame", after: "pd.DataFrame", params: Monitor) -> Judged:
    """Compare what is watched, if there is enough of it.

    Args:
        before: of the training data, a row for each group of near-duplicates: the columns of WATCHED, `class` for
            classes, and `unseen`, false for images that the model has learnt from.
        after: likewise of the new photographs, without `unseen`.
        params: what is watched, and what counts as an alarm.
    """
    if len(after) < params.least:
        why = f"{len(after)} photographs that are no near-duplicates of each other, at least {params.least} are needed"
        return Judged("too few", why, [])
    findings = compare(before, after, params)
    drifted = "; ".join(f"{one.name} {one.before} → {one.after}" for one in findings if one.drifted)
    if drifted:
        return Judged("drift", f"{len(after)} photographs differ from the training data: {drifted}", findings)
    return Judged("no drift", f"{len(after)} photographs are like the training data", findings)


def compare(before: "pd.DataFrame", after: "pd.DataFrame", params: Monitor) -> list[Finding]:
    """See `judge`."""
    compared = []
    for name in (name for name in WATCHED if name in params.watch):
        known = before[before["unseen"]] if name in OF_MODEL else before
        compared.append((name, *(_classes(known, after) if name == "classes" else _numbers(known, after, name))))
    found = []
    for (name, difference, _, old, new), p in zip(compared, holm([one[2] for one in compared]), strict=True):
        drifted = p <= params.false_alarms and difference >= params.smallest
        found.append(Finding(name, difference, p, old, new, drifted))
    return found


def _numbers(before: "pd.DataFrame", after: "pd.DataFrame", name: str) -> tuple[float, float, str, str]:
    from scipy.stats import ks_2samp

    old, new = before[name].to_numpy(), after[name].to_numpy()
    # Nearer to the training data than other photographs is no reason for alarm.
    sided = "less" if name == "distance" else "two-sided"
    many = sided == "less" and len(new) + len(old) > EXACTLY
    result = ks_2samp(new, old, alternative=sided, method="asymp" if many else "auto")
    digits = ".4f" if name == "confidence" else ".3g"  # of a sure model, all are next to 1
    was, now = (format(value, digits if value < 1000 else ",.0f") for value in map(float, map(np.median, (old, new))))
    return float(result.statistic), float(result.pvalue), was, now


def most_changed(before: "pd.Series[str]", after: "pd.Series[str]") -> list[str]:
    """The classes that occur in either column, the one whose share differs most first."""
    apart = after.value_counts(normalize=True).sub(before.value_counts(normalize=True), fill_value=0).abs()
    return [str(name) for name in apart.sort_index().sort_values(ascending=False, kind="stable").index]


def _classes(before: "pd.DataFrame", after: "pd.DataFrame") -> tuple[float, float, str, str]:
    from scipy.stats import MonteCarloMethod, chi2_contingency

    names = sorted({*before["class"], *after["class"]})
    counts = np.array([[(table["class"] == name).sum() for name in names] for table in (before, after)])
    shares = counts / counts.sum(1, keepdims=True)
    first = most_changed(before["class"], after["class"])[:TOLD]
    more = f" and {len(names) - TOLD:,} more" if len(names) > TOLD else ""
    told = [
        ", ".join(f"{name} {share:.0%}" for name, share in zip(names, row, strict=True) if name in first) + more
        for row in shares
    ]
    p = 1.0
    if len(names) > 1:
        method = MonteCarloMethod(n_resamples=DRAWS, rng=np.random.default_rng(0))
        p = float(chi2_contingency(counts, correction=False, method=method).pvalue)
    return float(np.abs(shares[0] - shares[1]).sum() / 2), p, told[0], told[1]
