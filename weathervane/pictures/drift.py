"""The picture of what was watched: the training data and the photographs of lately, one panel each."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weathervane.drift import OF_MODEL, Finding, most_changed
from weathervane.pictures.style import AFTER, BEFORE, bare, save
from weathervane.words import brief

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS, BINS = 4, 24
PANEL, LETTERS = 12, 40  # classes and letters of their names that a panel has room for
SIDES = ("training data", "lately")
TAIL = 0.5  # per cent of the values on either side that may lie outside a panel
UNITS = {"size": "√(width · height)", "confidence": "probability of the class", "distance": "from the training data"}


def drift_picture(
    before: "pd.DataFrame", after: "pd.DataFrame", findings: list[Finding], title: str, path: Path
) -> None:
    """Histograms side by side, in shares; what has drifted is named in bold.

    Args:
        before: as of `weathervane.drift.compare`, like `after`.
        findings: what came of it.
    """
    from matplotlib.figure import Figure

    rows = -(-len(findings) // COLUMNS)
    figure = Figure(figsize=(3.1 * COLUMNS, 0.6 + 2.3 * rows), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for number, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        if number >= len(findings):
            axes.set_axis_off()
            continue
        finding = findings[number]
        known = before[before["unseen"]] if finding.name in OF_MODEL else before
        (_shares if finding.name == "classes" else _values)(axes, known, after, finding.name)
        bare(axes, f"{finding.name}: {'drifted, ' if finding.drifted else ''}{finding.difference:.2f}")
        axes.title.set_fontweight("bold" if finding.drifted else "normal")
        axes.tick_params(labelsize=7)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save(figure, path)


def _values(axes: "Axes", before: "pd.DataFrame", after: "pd.DataFrame", name: str) -> None:
    both = [table[name].to_numpy() for table in (before, after)]
    low, high = np.percentile(np.concatenate(both), [TAIL, 100 - TAIL])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for values, colour, label in zip(both, (BEFORE, AFTER), SIDES, strict=True):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        axes.stairs(counts / len(values), edges, color=colour, fill=True, alpha=0.55, label=label)
    axes.set_xlabel(UNITS.get(name, ""), fontsize=7)


def _shares(axes: "Axes", before: "pd.DataFrame", after: "pd.DataFrame", name: str) -> None:
    labels = sorted({*before["class"], *after["class"]})
    if len(labels) > PANEL:
        axes.set_xlabel(f"the {PANEL} of {len(labels)} that changed most", fontsize=7)
        labels = sorted(most_changed(before["class"], after["class"])[:PANEL])
    for number, (table, colour, label) in enumerate(zip((before, after), (BEFORE, AFTER), SIDES, strict=True)):
        shares = [(table["class"] == one).mean() for one in labels]
        axes.bar(np.arange(len(labels)) + 0.4 * number, shares, 0.4, color=colour, alpha=0.7, label=label)
    axes.set_xticks(np.arange(len(labels)) + 0.2, [brief(label, 14) for label in labels])
    if len(labels) * max(map(len, labels)) > LETTERS:
        axes.tick_params("x", labelrotation=40)
        for tick in axes.get_xticklabels():
            tick.set(horizontalalignment="right", rotation_mode="anchor")
