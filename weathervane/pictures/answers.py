"""Pictures of a table of predictions: what is taken for what, how well classes part, how honest probabilities are."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weathervane.bootstrap import share_interval
from weathervane.measures import BINS, Answers, bins, calibration_error
from weathervane.pictures.style import AFTER, BAR, BEFORE, CLASSES, GREY, bare, colours, save
from weathervane.words import brief

if TYPE_CHECKING:
    import pandas as pd

MOST = 60  # classes whose counts and names a confusion matrix has room for
ROOMY = 30  # classes with a whole cell each; of more, cells are smaller and have no zeros
NAME = 24  # characters of a class's name


def confusion_picture(table: "pd.DataFrame", classes: list[str], title: str, path: Path) -> None:
    """The confusion matrix as a PNG: counts, shaded by the share of each true class."""
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(table["label"], table["predicted"], labels=classes)
    share = counts / counts.sum(1, keepdims=True).clip(1)
    side, size = 2.2 + 0.75 * min(len(classes), ROOMY), 10 * min(1.0, ROOMY / len(classes))  # inches, points
    figure = Figure(figsize=(side, side * 0.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    places = range(0, len(classes), math.ceil(len(classes) / MOST))  # of which names can be read
    names = [brief(classes[place], NAME) for place in places]
    axes.set_xticks(places, names, fontsize=max(size, 6))
    if max(map(len, names)) > 2:
        axes.tick_params("x", labelrotation=30)
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
    axes.set_yticks(places, names, fontsize=max(size, 6))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    for i, j in np.ndindex(counts.shape if len(classes) <= MOST else (0, 0)):
        if counts[i, j] or len(classes) <= ROOMY:
            colour = "white" if share[i, j] > 0.6 else "black"
            axes.text(j, i, counts[i, j], ha="center", va="center", fontsize=size, color=colour)
    save(figure, path)


def curves_picture(table: "pd.DataFrame", classes: list[str], title: str, path: Path) -> None:
    """ROC and precision-recall curves, one against the rest, with the area under each; classes that occur.

    Of more classes than there are colours those with the smallest areas under ROC have a name, and the others are grey.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

    figure = Figure(figsize=(9, 4.4), layout="constrained")
    roc, pr = figure.subplots(1, 2)
    asked = {label: (table["label"] == label, table[f"p_{label}"]) for label in sorted(classes)}
    asked = {label: (own, score) for label, (own, score) in asked.items() if own.any() and not own.all()}
    under = {label: roc_auc_score(*told) for label, told in asked.items()}
    weakest = sorted(asked, key=under.__getitem__)[: len(CLASSES)]
    colour = colours(classes) if len(classes) <= len(CLASSES) else colours(weakest)
    for label, (own, score) in asked.items():
        named = label in weakest
        line = {"color": colour[label], "linewidth": 1.8} if named else {"color": BAR, "linewidth": 0.8, "zorder": 1}
        false, true, _ = roc_curve(own, score)
        precision, recall, _ = precision_recall_curve(own, score)
        areas = under[label], average_precision_score(own, score)
        told = [f"{brief(label, NAME)}  {area:.3f}" if named else None for area in areas]
        roc.plot(false, true, label=told[0], clip_on=False, **line)
        pr.plot(recall, precision, drawstyle="steps-post", label=told[1], clip_on=False, **line)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    roc.set(xlabel="of the other classes' images, taken for this class", ylabel="of this class's images, found")
    pr.set(xlabel="recall", ylabel="precision")
    for axes, name in ((roc, "ROC"), (pr, "Precision–recall")):
        bare(axes, name)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        if axes.get_legend_handles_labels()[0]:
            area = (
                "area"
                if len(asked) == len(weakest)
                else f"area: the {len(weakest)} of {len(asked)} with least under ROC"
            )
            axes.legend(title=area, edgecolor="none", fontsize=9, title_fontsize=9, loc="lower center")
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def reliability_picture(
    before: "pd.DataFrame", after: "pd.DataFrame", classes: list[str], title: str, path: Path
) -> None:
    """Accuracy against stated confidence, a point a bin with its 95 % interval, before and after temperature scaling.

    The bars at the foot are the share of images in each bin, after it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for table, colour, name in ((before, BEFORE, "before"), (after, AFTER, "after")):
        answers = Answers.of(table, classes)
        inside, confidence = bins(answers.probability), answers.probability.max(1)
        (error,) = calibration_error(answers, np.ones((1, len(table))))
        axes.plot([], [], "o", color=colour, label=f"{name} temperature scaling: error {error:.3f}")
        for number in np.unique(inside):
            mine = inside == number
            place, right = confidence[mine].mean(), answers.correct[mine]
            ends = share_interval(right.mean(), table["group"].to_numpy()[mine])
            axes.plot([place, place], ends, color=colour, linewidth=1.2)
            axes.plot(place, right.mean(), "o", color=colour, clip_on=False)
    stated = bins(Answers.of(after, classes).probability)
    shares = np.bincount(stated, minlength=BINS) / len(stated)
    axes.bar((np.arange(BINS) + 0.5) / BINS, shares / 4, 0.9 / BINS, color=BAR)
    bare(axes, title)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability", ylabel="share that is right")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center")
    save(figure, path)
