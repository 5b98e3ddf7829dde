"""How often does the gate let the wrong one in: `python -m benchmarks.gate` writes the tables of docs/promotion.md.

Two models' errors are drawn as they are found: images differ in how hard they are, and a model is right where
its luck on an image outweighs that. `COMMON` is the share of the variance that an image has in common for all
models (a correlation of latent normals); it is set so that two models of equal accuracy disagree on as many
images as pairs on the photographs do. In a year of nights the test images stay the same, as do their difficulties.

Legend: R = repetitions, N = test images, each of a near-duplicate group of its own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.pages import page
from weathervane.files import replacing
from weathervane.gate import level, p_better, p_not_worse, shown
from weathervane.progress import say, track
from weathervane.words import markdown_table

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "promotion.md", DOCS / "promotion.png"
ACCURACY, COMMON = 0.92, 0.80
ALPHA, MARGIN, SLOPE = 0.05, 0.03, -0.005
SIZES, DIFFERENCES = (100, 200, 500, 1000), (-0.03, 0.0, 0.01, 0.02, 0.04)
SINGLE, YEARS, NIGHTS = 20_000, 1_000, 365
Votes = tuple[np.ndarray, np.ndarray, int]  # gained [R], lost [R], possible
Gate = Callable[[Votes, Votes, int], np.ndarray]  # against the champion, the best so far; look → opens [R]


def at_least(champion: Votes, best: Votes, look: int) -> np.ndarray:
    """What other pipelines do: promote unless the accuracy is lower."""
    return champion[0] >= champion[1]


def better(champion: Votes, best: Votes, look: int) -> np.ndarray:
    """The gate's `better`; in these years champion and best champion so far are one."""
    return _shown("better", champion, level(ALPHA, look))


def better_unspent(champion: Votes, best: Votes, look: int) -> np.ndarray:
    """The same test with the same level every night."""
    return _shown("better", champion, ALPHA)


def not_worse(champion: Votes, best: Votes, look: int) -> np.ndarray:
    """The gate's `not_worse`: against the champion and the best one so far."""
    return _shown("not_worse", champion, level(ALPHA, look)) & _shown("not_worse", best, level(ALPHA, look))


def not_worse_chained(champion: Votes, best: Votes, look: int) -> np.ndarray:
    """Against yesterday's champion only, with the same level every night."""
    return _shown("not_worse", champion, ALPHA)


def _shown(kind: str, votes: Votes, enough: float) -> np.ndarray:
    p = p_better(*votes[:2]) if kind == "better" else p_not_worse(*votes, MARGIN)
    return shown(kind, votes[0], votes[1], p, enough)


class Images:
    """R test sets of N images, each with its difficulty, which all models meet."""

    def __init__(self, repetitions: int, images: int, rng: np.random.Generator) -> None:
        self.rng, self.shape = rng, (repetitions, images)
        self.ease = np.float32(np.sqrt(COMMON)) * rng.standard_normal(self.shape, np.float32)
        self.known: tuple[np.ndarray, np.ndarray] | None = None

    def answers(self, accuracy: np.ndarray) -> np.ndarray:
        """Right or wrong, bool [R, N], of fresh models of these true accuracies, [R]."""
        if self.known is None or (self.known[0] != accuracy).any():
            ability = ndtri(accuracy).astype(np.float32)[:, None]
            self.known = accuracy, ndtr((ability + self.ease) / np.float32(np.sqrt(1 - COMMON)))
        return self.rng.random(self.shape, np.float32) < self.known[1]


def votes(challenger: np.ndarray, other: np.ndarray) -> Votes:
    """Of two tables of answers, bool [R, N]."""
    return (challenger & ~other).sum(1), (other & ~challenger).sum(1), challenger.shape[1]


@dataclass(frozen=True)
class Year:
    """What came of R years: promotions [R], and the last champion's true accuracy [R]."""

    promotions: np.ndarray
    accuracy: np.ndarray


def year(gate: Gate, images: int, difference: float, of_champion: bool, seed: int) -> Year:
    """A challenger a night, truly `difference` better than the first champion, or than the champion of its day.

    Whoever the gate lets in is champion from then on, and the best so far if it is shown to be better.
    """
    rng = np.random.default_rng(seed)
    there = Images(YEARS, images, rng)
    first = np.full(YEARS, ACCURACY)
    accuracy, promotions = first, np.zeros(YEARS, int)
    champion = there.answers(first)
    best = champion.copy()
    for look in range(1, NIGHTS + 1):
        truly = (accuracy if of_champion else first) + difference
        challenger = there.answers(truly)
        against_best = votes(challenger, best)
        opens = gate(votes(challenger, champion), against_best, look)
        record = opens & _shown("better", against_best, level(ALPHA, look))
        champion[opens], best[record] = challenger[opens], challenger[record]
        accuracy = np.where(opens, truly, accuracy)
        promotions += opens
    return Year(promotions, accuracy)


def single() -> tuple[list[list[str]], dict[tuple[str, int, float], float]]:
    """Rows of the table of single decisions, and the shares."""
    gates: dict[str, Gate] = {">=": at_least, "better": better, "not_worse": not_worse}
    share: dict[tuple[str, int, float], float] = {}
    for number, n in enumerate(track(SIZES, "single decisions")):
        rng, first = np.random.default_rng(number), np.full(SINGLE, ACCURACY)
        for difference in DIFFERENCES:
            there = Images(SINGLE, n, rng)
            against = votes(there.answers(first + difference), there.answers(first))
            for name, gate in gates.items():
                share[name, n, difference] = float(gate(against, against, 1).mean())
    rows = [
        [f"`{name}`", f"{n:,}", *(f"{100 * share[name, n, difference]:.1f}" for difference in DIFFERENCES)]
        for name in gates
        for n in SIZES
    ]
    return rows, share


def nights() -> list[list[str]]:
    """Rows of the table of years in which every challenger is as far from the first champion."""
    gates: dict[str, Gate] = {
        ">=": at_least,
        "better, every night at 5 %": better_unspent,
        "better": better,
        "not_worse": not_worse,
    }
    rows = []
    for name, n in track([(name, n) for name in gates for n in SIZES], "years"):
        shares = [year(gates[name], n, d, False, SIZES.index(n)).promotions for d in DIFFERENCES]
        cells = [f"{100 * (found > 0).mean():.1f}" for found in shares]
        rows.append([f"`{name}`", f"{n:,}", *cells, f"{shares[DIFFERENCES.index(0.0)].mean():.2f}"])
    return rows


def decline() -> list[list[str]]:
    """Rows of the table of years in which every challenger is a little worse than the champion of its day."""
    gates: dict[str, Gate] = {
        ">=": at_least,
        "not_worse, against yesterday's": not_worse_chained,
        "not_worse": not_worse,
        "better": better,
    }
    rows = []
    for name, n in track([(name, n) for name in gates for n in SIZES[1:]], "declines"):
        found = year(gates[name], n, SLOPE, True, SIZES.index(n))
        beyond = (found.accuracy < ACCURACY - MARGIN - 1e-9).mean()
        lost = 100 * (ACCURACY - found.accuracy)
        cells = [f"{found.promotions.mean():.1f}", f"{lost.mean():.1f}", f"{100 * beyond:.1f}"]
        rows.append([f"`{name}`", f"{n:,}", *cells])
    return rows


def draw(share: dict[tuple[str, int, float], float], path: Path) -> None:
    """Chance of promotion over the true difference, a line a size of the test set, a panel a gate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    points = [100 * difference for difference in DIFFERENCES]
    for axes, name in zip(figure.subplots(1, 3, sharey=True), (">=", "better", "not_worse"), strict=True):
        for n, shade in zip(SIZES, ("#9ecae1", "#6baed6", "#3182bd", "#08519c"), strict=True):
            axes.plot(points, [100 * share[name, n, d] for d in DIFFERENCES], "o-", color=shade, label=f"{n:,} images")
        axes.axhline(5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_title("accuracy >= champion's" if name == ">=" else f"policy {name}", fontsize=10)
        axes.set_xlabel("true difference, points")
        axes.set_xticks(points)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("promoted, %")
    figure.axes[1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)


def disagreement() -> float:
    """Share of images on which two models of equal accuracy differ, under COMMON."""
    there, first = Images(2_000, 500, np.random.default_rng(0)), np.full(2_000, ACCURACY)
    gained, lost, n = votes(there.answers(first), there.answers(first))
    return float((gained + lost).mean() / n)


def main() -> None:
    """Simulate, and write tables and picture into docs/."""
    began = time.perf_counter()
    say(f"equal models disagree on {100 * disagreement():.1f} % of the images")
    points = [f"{100 * difference:+.0f}" if difference else "0" for difference in DIFFERENCES]
    rows, share = single()
    tables = {
        "single": (["gate", "images", *points], rows),
        "years": (["gate", "images", *points, "promotions a year at 0"], nights()),
        "decline": (["gate", "images", "promotions", "points lost", "more than 3 lost, %"], decline()),
    }
    text = PAGE.read_text(encoding="utf-8")
    with replacing(PAGE) as file:
        file.write(page(text, {name: markdown_table(*table) for name, table in tables.items()}))
    draw(share, PICTURE)
    say(f"{PAGE} and {PICTURE} written in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
