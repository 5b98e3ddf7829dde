"""The gate's statistics: what two tables of predictions of the same images say about their models.

Nothing here trains, loads or moves anything. A vote is a near-duplicate group's: it is gained where the
challenger is right on more of the group's images than the other model, lost where on fewer, and else there is
none; so a photograph that was taken in five times counts once. Counts may be arrays, for simulations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from weathervane.bootstrap import effective_size
from weathervane.errors import InputError
from weathervane.measures import holm
from weathervane.params import Strict
from weathervane.words import markdown_table

if TYPE_CHECKING:
    import pandas as pd

SUSPECTED = "data/suspected"  # metric of a run: the share of all labels that its model doubts, see suspects.py
FURTHEST = 100  # times the present test set: beyond that, no number of images is named


class Register(Strict):
    """params/register.yaml."""

    policy: Literal["by_change", "better", "not_worse", "manual", "never"]
    alpha: float = Field(gt=0, lt=0.5)
    margin: float = Field(gt=0, lt=0.5)
    min_images: int = Field(ge=1)
    slice_margin: float = Field(gt=0, lt=1)
    suspected_rise: float = Field(gt=0, le=1)
    limits: dict[str, float]
    at_least: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Challenger against another version on the images that neither has seen; shares and differences 0-1."""

    other: str  # the other's version
    images: int
    groups: int  # as many votes could be cast
    left_out: int  # test images that one of the two was trained on, or near-duplicates of such
    classes: tuple[str, ...]  # common to both; () where they are the same
    gained: int
    lost: int
    p_better: float  # two-sided, exact McNemar
    p_not_worse: float  # twice the one-sided p, so that both are held against the same level
    accuracy: float
    other_accuracy: float
    low: float  # 95 % interval of the difference of the accuracies
    high: float
    losses: tuple[str, ...]  # classes and slices in which a loss beyond the margin is shown, in words

    @property
    def difference(self) -> float:
        """Accuracy of the challenger minus that of the other."""
        return self.accuracy - self.other_accuracy

    def p(self, kind: str) -> float:
        """Of `better` or `not_worse`."""
        return self.p_better if kind == "better" else self.p_not_worse

    def shows(self, kind: str, enough: float) -> bool:
        """Whether the challenger is shown to be `better`, or `not_worse` by the margin, with a p up to `enough`."""
        return bool(shown(kind, self.gained, self.lost, self.p(kind), enough))


@dataclass(frozen=True)
class Verdict:
    """Whether the gate opens, and everything that it rests on."""

    opens: bool
    why: str
    policy: str
    look: int = 0  # this was the n-th look at one test set; 0: there was none
    level: float = 0.0  # a p up to this counts as evidence at this look
    needed: int | None = None  # further test images that would tell, if the votes go on as they went
    champion: Comparison | None = None
    best: Comparison | None = None  # the best champion so far, where that is another version
    beats_best: bool = True  # shown to be better than the best champion so far
    asks: bool = False  # nothing stands against it, and a person decides (policy manual)
    unjudged: str = ""  # where it says nothing of the challenger: the reason, after which it is to be decided again

    def figures(self) -> dict[str, float]:
        """Metric name → value, for a tracker and for the history."""
        if self.champion is None:
            return {}
        found = {
            "test/delta_to_champion": self.champion.difference,
            "test/delta_to_champion_low": self.champion.low,
            "test/delta_to_champion_high": self.champion.high,
            "gate/gained": self.champion.gained,
            "gate/lost": self.champion.lost,
            "gate/p_better": self.champion.p_better,
            "gate/p_not_worse": self.champion.p_not_worse,
            "gate/level": self.level,
            "gate/look": self.look,
        }
        if self.best:
            found |= {"gate/best_p_not_worse": self.best.p_not_worse}
        return {name: float(value) for name, value in found.items()}


def level(alpha: float, look: int) -> float:
    """The p (two-sided) that counts at the n-th look at one test set, from 1: alpha, alpha/3, alpha/6, ...

    2 alpha / (n (n + 1)) adds up to 2 alpha over any number of looks. Only one of the two sides promotes, so at
    most a share alpha of test sets ever sees a false promotion, however the challengers depend on each other
    (alpha spending; Foster & Stine 2008, J. R. Stat. Soc. B 70, 429).
    """
    return 2 * alpha / (look * (look + 1))


def p_better(gained: Any, lost: Any) -> Any:
    """McNemar's exact test, two-sided: how often votes that mean nothing would differ as much as these.

    Written as an incomplete beta function, which is the binomial's tail for whole votes and smooth between them.
    """
    from scipy.special import betainc

    return np.minimum(1.0, 2 * betainc(np.maximum(gained, lost), np.minimum(gained, lost) + 1.0, 0.5))


def p_not_worse(gained: Any, lost: Any, groups: Any, margin: float) -> Any:
    """Twice the one-sided p of "worse by `margin` or more", where `groups` could have voted.

    Tango's score test (1998, Statistics in Medicine 17, 891): the share of losses that this would take is
    estimated from the votes under the hypothesis itself, so that models which never disagree have a p, too.
    """
    from scipy.special import ndtr

    gained, lost = np.asarray(gained, float), np.asarray(lost, float)
    b = -gained - lost - (2 * groups - gained + lost) * margin
    root = np.sqrt(np.maximum(0.0, b * b - 8 * groups * lost * margin * (1 + margin)))
    share = (root - b) / (4 * groups)  # of votes lost, most likely if the difference were exactly -margin
    spread = np.sqrt(groups * np.maximum(1e-12, 2 * share - margin * (1 + margin)))
    return np.minimum(1.0, 2 * ndtr((lost - gained - groups * margin) / spread))


def shown(kind: str, gained: Any, lost: Any, p: Any, enough: Any) -> Any:
    """Whether votes with this p are evidence for `better` or `not_worse`, where a p up to `enough` is."""
    return (p <= enough) & ((kind != "better") | np.greater(gained, lost))


def leaked(today: "pd.DataFrame", *trained: "pd.DataFrame") -> set[str]:
    """Today's near-duplicate groups of which a model was trained on any image.

    Groups of another ledger may be named otherwise, so images are looked up by their bytes as well.

    Args:
        today: columns sha256, group; every image of today's ledger, not only the test images.
        trained: the same columns; what each model was trained on, its validation images included.
    """
    seen: set[str] = set()
    for table in trained:
        seen |= set(today["group"][today["sha256"].isin(table["sha256"])]) | set(table["group"])
    return seen & set(today["group"])


def compare(
    challenger: "pd.DataFrame",
    other: "pd.DataFrame",
    version: str,
    classes: tuple[list[str], list[str]],
    out: set[str],
    slices: "pd.DataFrame",
    rules: Register,
) -> Comparison:
    """Two models' predictions of the same test images, without the groups in `out` and on their common classes.

    Args:
        challenger: columns sha256, group, label, predicted.
        other: the same; rows in any order.
        version: the other's.
        classes: the challenger's and the other's.
        out: near-duplicate groups that are left out for both.
        slices: bool columns by sha256, each a slice in which no loss beyond `slice_margin` may be shown.
        rules: `margin`, `slice_margin` and `alpha` are used.

    Raises:
        InputError: fewer than two classes in common, or no image is left.
    """
    common = tuple(sorted(set(classes[0]) & set(classes[1])))
    if len(common) < 2:
        whose = f"the classes of version {version} are {', '.join(classes[1])}"
        raise InputError(f"{whose}, the challenger's {', '.join(classes[0])}")
    both = challenger.merge(other[["sha256", "predicted"]], on="sha256", suffixes=("", "_other"))
    both = both[both["label"].isin(common)]
    kept = both[~both["group"].isin(out)]
    if kept.empty:
        raise InputError(f"version {version} or the challenger was trained on each of the {len(both)} test images")
    right = kept.assign(ours=kept["predicted"] == kept["label"], theirs=kept["predicted_other"] == kept["label"])
    gained, lost, groups = votes(right)
    low, high = difference_interval(right)
    return Comparison(
        other=version,
        images=len(right),
        groups=groups,
        left_out=len(both) - len(kept),
        classes=() if set(classes[0]) == set(classes[1]) else common,
        gained=gained,
        lost=lost,
        p_better=float(p_better(gained, lost)),
        p_not_worse=float(p_not_worse(gained, lost, groups, rules.margin)),
        accuracy=float(right["ours"].mean()),
        other_accuracy=float(right["theirs"].mean()),
        low=low,
        high=high,
        losses=_losses(right, slices, rules),
    )


def votes(right: "pd.DataFrame") -> tuple[int, int, int]:
    """Votes gained, votes lost and groups, of a table with group and, right or wrong, `ours` and `theirs`."""
    balance = _gain(right).groupby(right["group"]).sum()
    return int((balance > 0).sum()), int((balance < 0).sum()), len(balance)


def difference_interval(right: "pd.DataFrame") -> tuple[float, float]:
    """95 % interval of `ours` minus `theirs`, the difference of two accuracies: what Tango's test does not rule out.

    The images of `right` (group, ours, theirs) count as many as independent ones would (`bootstrap.effective_size`).
    """
    groups, gain = effective_size(right["group"].to_numpy()), _gain(right)
    gained, lost = groups * float((gain > 0).mean()), groups * float((gain < 0).mean())
    return -_not_ruled_out(gained, lost, groups), _not_ruled_out(lost, gained, groups)


def _not_ruled_out(gained: float, lost: float, groups: float) -> float:
    """The largest loss with a p above 0.05."""
    from scipy.optimize import brentq

    def beyond_doubt(margin: float) -> float:
        return float(p_not_worse(gained, lost, groups, margin)) - 0.05

    return 1.0 if beyond_doubt(1.0) > 0 else float(brentq(beyond_doubt, (lost - gained) / groups, 1.0))


def judge(
    challenger: str, policy: str, champion: Comparison, best: Comparison | None, look: int, rules: Register
) -> Verdict:
    """The verdict on version `challenger`.

    Every policy asks for the champion that would be replaced; and whatever is let in must not be worse than
    the best champion so far, or a little could be lost each time.

    Args:
        challenger: its version.
        policy: better, not_worse or manual.
        champion: challenger against champion.
        best: challenger against the best champion so far, where that is another version.
        look: how many looks at this test set there were, this one included; 0 where there are too few images for one.
        rules: of params/register.yaml.
    """
    enough = level(rules.alpha, look) if look else 0.0
    reference = best or champion
    voters = "images" if champion.groups == champion.images else "images or groups of near-duplicates"
    told = (
        f"version {challenger} is right where the champion, version {champion.other}, is wrong on {champion.gained} "
        f"of {champion.groups} {voters} and wrong where it is right on {champion.lost}"
    )

    def verdict(opens: bool, why: str, needed: int | None = None, asks: bool = False) -> Verdict:
        notes = [f"on the common classes {', '.join(champion.classes)}"] if champion.classes else []
        if champion.left_out:
            notes.append(f"{champion.left_out} test images left out because one of the two was trained on them")
        return Verdict(
            opens=opens,
            why="; ".join([why, *notes]),
            policy=policy,
            look=look,
            level=enough,
            needed=needed,
            champion=champion,
            best=best,
            beats_best=opens and reference.shows("better", enough),
            asks=asks,
        )

    few = min(champion.images, reference.images)
    if few < rules.min_images:
        short = rules.min_images - few
        return verdict(False, f"{few} test images can decide nothing: {short} more are needed", short)
    lost = f"; but {' and '.join(champion.losses)}" if champion.losses else ""
    if policy == "manual":
        why = f"{told}, p = {champion.p_better:.2g}{lost}: a person decides (policy manual)"
        return verdict(False, why, asks=True)
    for comparison, kind in [(champion, policy), *([(best, "not_worse")] if best else [])]:
        if not comparison.shows(kind, enough):
            what = _doubt(comparison, kind, rules.margin)
            than = "" if comparison is champion else f" than version {comparison.other}, the best champion so far"
            asked = f" ({enough:.2g} is asked for at look {look} at this test set)" if look > 1 else ""
            needed = _needed(comparison, kind, look, rules)
            more = f"; about {needed:,} more test images would tell at the next look" if needed else ""
            return verdict(False, f"{told}: {what}{than}, p = {comparison.p(kind):.2g}{asked}{more}", needed)
    if lost:
        return verdict(False, told + lost)
    proof = "better" if policy == "better" else f"not worse by {100 * rules.margin:.2g} points"
    return verdict(True, f"{told}: {proof}, p = {champion.p(policy):.2g}")


def table(verdict: Verdict) -> str:
    """What the verdict rests on, as a table in Markdown; "" where nothing was compared."""
    if verdict.champion is None:
        return ""
    columns = [ROWS, _column("champion", verdict.champion)]
    columns += [_column("best so far", verdict.best)] if verdict.best else []
    head, *rows = zip(*columns, strict=True)
    looks = f"look {verdict.look} at this test set, p ≤ {verdict.level:.2g} is asked for" if verdict.look else "no look"
    told = f"Policy {verdict.policy}; {looks}."
    return f"{markdown_table(head, rows)}\n\n{told}"


ROWS = [
    "against",
    "test images (left out)",
    "votes gained, lost, possible",
    "accuracy",
    "difference (95 %)",
    "p, better",
    "p, not worse by the margin",
]


def _column(what: str, one: Comparison) -> list[str]:
    return [
        f"{what}, version {one.other}",
        f"{one.images} ({one.left_out})",
        f"{one.gained}, {one.lost}, {one.groups}",
        f"{one.accuracy:.3f} against {one.other_accuracy:.3f}",
        f"{one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
        f"{one.p_better:.2g}",
        f"{one.p_not_worse:.2g}",
    ]


def beyond(metrics: Mapping[str, float], rules: Register) -> list[str]:
    """Metrics of a run that are beyond `limits`, or do not come to `at_least`, or are missing, in words."""
    value = {name: metrics.get(name, math.nan) for name in (*rules.limits, *rules.at_least)}
    broken = [(name, f"at most {most:g} is allowed") for name, most in rules.limits.items() if not value[name] <= most]
    broken += [(name, f"at least {one:g} is wanted") for name, one in rules.at_least.items() if not value[name] >= one]
    return [
        f"{name} is {metrics[name]:.4g}, {told}" if name in metrics else f"{name} is not on record"
        for name, told in broken
    ]


def doubted(metrics: Mapping[str, float], champion: Mapping[str, float], version: str, rules: Register) -> str:
    """Why the labels keep the gate shut: many more of them are doubted than when the champion was trained; or "".

    Args:
        metrics: of the challenger's run; champion: of the run of the champion, `version`.
    """
    if SUSPECTED not in champion:  # made by a person, or before there was this rule: nothing to compare with
        return ""
    if SUSPECTED not in metrics:
        return f"{SUSPECTED} is not on record: which labels are doubted is not known"
    now, then = metrics[SUSPECTED], champion[SUSPECTED]
    if now - then <= rules.suspected_rise:
        return ""
    return (
        f"{now:.1%} of the labels are doubted, {then:.1%} when version {version} was trained: look at suspects.csv of "
        f"this retraining, or raise suspected_rise in params/register.yaml (now {rules.suspected_rise:g})"
    )


def _gain(right: "pd.DataFrame") -> "pd.Series[int]":
    return right["ours"].astype(int) - right["theirs"]


def _losses(right: "pd.DataFrame", slices: "pd.DataFrame", rules: Register) -> tuple[str, ...]:
    """Classes and slices whose loss beyond the margin is shown; Holm's correction (1979) over all of them."""
    inside = {f"the class {label}": right["label"] == label for label in sorted(set(right["label"]))}
    for name in slices:
        inside[str(name)] = right["sha256"].map(slices[name]).fillna(False).astype(bool)
    tested = {name: votes(right[rows]) for name, rows in inside.items() if rows.any()}
    # Seen from the other model: it is better here, and that by more than the margin.
    ps = [_p_more(lost, gained, groups, rules.slice_margin) for gained, lost, groups in tested.values()]
    return tuple(
        f"worse on {name}: {gained} votes gained, {lost} lost of {groups}, p = {p:.2g}"
        for p, (name, (gained, lost, groups)), among_all in sorted(zip(ps, tested.items(), holm(ps), strict=True))
        if among_all <= rules.alpha
    )


def _p_more(gained: int, lost: int, groups: int, margin: float) -> float:
    """One-sided p of "better by at most `margin`": the same test, with the margin on the other side."""
    return float(p_not_worse(gained, lost, groups, -margin)) / 2


def _doubt(comparison: Comparison, kind: str, margin: float) -> str:
    if kind == "not_worse":
        return f"it may be worse by {100 * margin:.2g} points"
    return "not enough" if comparison.gained > comparison.lost else "not better"


def _needed(comparison: Comparison, kind: str, look: int, rules: Register) -> int | None:
    """Further images at which votes cast in the same proportions would be evidence at the next look; None if no number
    would. Where more than half of them are new, that look is the first at another test set."""
    if kind == "better" and comparison.gained <= comparison.lost:
        return None
    groups = np.unique(np.geomspace(comparison.groups + 1, FURTHEST * comparison.groups, 5000).astype(int))
    share = groups / comparison.groups
    gained, lost = comparison.gained * share, comparison.lost * share
    p = p_better(gained, lost) if kind == "better" else p_not_worse(gained, lost, groups, rules.margin)
    enough = np.where(share > 2, level(rules.alpha, 1), level(rules.alpha, look + 1))
    told = groups[p <= enough]
    return round((told[0] / comparison.groups - 1) * comparison.images) if len(told) else None
