"""Pictures of a table of predictions: what is taken for what, how well classes part, how honest probabilities are."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weathervane.evaluate import scores, wilson
from weathervane.measures import BINS, Answers, bins
from weathervane.pictures.style import AFTER, BEFORE, GREY, bare, colours, save

if TYPE_CHECKING:
    import pandas as pd


def confusion_picture(table: "pd.DataFrame", classes: list[str], title: str, path: Path) -> None:
    """The confusion matrix as a PNG: counts, shaded by the share of each true class."""
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(table["label"], table["predicted"], labels=classes)
    share = counts / counts.sum(1, keepdims=True).clip(1)
    side = 2.2 + 0.75 * len(classes)
    figure = Figure(figsize=(side, side * 0.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    for i, j in np.ndindex(counts.shape):
        axes.text(j, i, counts[i, j], ha="center", va="center", color="white" if share[i, j] > 0.6 else "black")
    save(figure, path)


def curves_picture(table: "pd.DataFrame", classes: list[str], title: str, path: Path) -> None:
    """ROC and precision-recall curves, one against the rest, with the area under each; classes that occur."""
    from matplotlib.figure import Figure
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    figure = Figure(figsize=(9, 4.4), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    for label, colour in colours(classes).items():
        own, score = table["label"] == label, table[f"p_{label}"]
        if own.all() or not own.any():
            continue
        line = {"color": colour, "linewidth": 1.8, "clip_on": False}
        false, true, _ = roc_curve(own, score)
        roc.plot(false, true, label=f"{label}  {roc_auc_score(own, score):.3f}", **line)
        precision, recall, _ = precision_recall_curve(own, score)
        area = average_precision_score(own, score)
        pr.plot(recall, precision, drawstyle="steps-post", label=f"{label}  {area:.3f}", **line)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    roc.set(xlabel="of the other classes' images, taken for this class", ylabel="of this class's images, found")
    pr.set(xlabel="recall", ylabel="precision")
    for axes, name in ((roc, "ROC"), (pr, "Precision–recall")):
        bare(axes, name)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(title="area", frameon=False, fontsize=9, title_fontsize=9, loc="lower center")
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def reliability_picture(
    before: "pd.DataFrame", after: "pd.DataFrame", classes: list[str], title: str, path: Path
) -> None:
    """Accuracy against stated confidence, a point a bin with its 95 % interval, before and after temperature scaling.

    The bars at the foot are the share of images in each bin.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, table, colour, name in zip(panels, (before, after), (BEFORE, AFTER), ("before", "after"), strict=True):
        answers = Answers.of(table, classes)
        inside, confidence = bins(answers.probability), answers.probability.max(1)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for number in np.unique(inside):
            mine = inside == number
            share, place = answers.right[mine].mean(), confidence[mine].mean()
            low, high = wilson(answers.right[mine].sum(), mine.sum())
            axes.plot([place, place], [low, high], color=colour, linewidth=1.5)
            axes.plot(place, share, "o", color=colour, clip_on=False)
            axes.bar((number + 0.5) / BINS, mine.mean() / 4, width=0.9 / BINS, color="#dddddd")
        bare(axes, f"{name} temperature scaling: calibration error {scores(table, classes)['ece']:.3f}")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability")
    panels[0].set_ylabel("share that is right")
    figure.suptitle(title, fontsize=10)
    save(figure, path)
