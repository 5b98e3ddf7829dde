"""Pictures for the tracker, as PNG files, by matplotlib's object interface (no global figure, no display)."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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
    figure.savefig(path, dpi=110, bbox_inches="tight")  # a long title widens the picture


def contact_sheet(before: np.ndarray, after: list[np.ndarray], title: str, path: Path) -> None:
    """Images and what augmentation made of them, a row each.

    Args:
        before: uint8 [N, S, S, 3].
        after: several draws, uint8 [N, S, S, 3] each.
    """
    from matplotlib.figure import Figure

    rows, columns = len(before), 1 + len(after)
    figure = Figure(figsize=(1.15 * columns, 1.15 * rows + 0.4), layout="constrained")
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        row, column = divmod(number, columns)
        axes.imshow(before[row] if column == 0 else after[column - 1][row])
        axes.set_axis_off()
        if row == 0:
            axes.set_title("image" if column == 0 else f"draw {column}", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110, bbox_inches="tight")  # a long title widens the picture
