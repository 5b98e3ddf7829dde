"""What all pictures share: a colour a class, the same one everywhere, and how a figure becomes a PNG."""

from pathlib import Path
from typing import TYPE_CHECKING

from weathervane.pictures.fonts import complete, lacking

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
    """As a PNG; a long title widens the picture. What no installed font has is a box, of which nobody is told."""
    for _ in range(2):
        with lacking() as points:
            figure.savefig(path, dpi=DPI, bbox_inches="tight")
        if not points:
            break
        complete(figure, points)
