"""What all pictures share: a colour a class, the same one everywhere, and how a figure becomes a PNG."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
GREY, BAR = "#666666", "#dddddd"
BEFORE, AFTER = "#999999", "#0072b2"  # two states of one thing: what it was, what it is
# Okabe & Ito 2008: told apart by colour-blind people; without its yellow, which no text is legible in.
CLASSES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"]


def colours(classes: list[str]) -> dict[str, str]:
    """Class → colour, by its place in the alphabet."""
    return {label: CLASSES[number % len(CLASSES)] for number, label in enumerate(sorted(classes))}


def bare(axes: "Axes", title: str = "") -> None:
    """Only the lower and the left line of the frame, a faint grid, a title to the left."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, loc="left")


def save(figure: "Figure", path: Path) -> None:
    """As a PNG; a long title widens the picture. What its font lacks is a box, of which nobody needs to be told."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=DPI, bbox_inches="tight")
