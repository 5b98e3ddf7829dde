"""What accuracy costs: variants against the seconds of their training and against their size."""

from pathlib import Path
from typing import Any

from weathervane.pictures.style import AFTER, GREY, bare, save

AXES = (("seconds", "seconds of training a fold"), ("parameters", "parameters"))


def tradeoff_picture(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Accuracy with its 95 % interval against both, on logarithmic axes.

    Args:
        rows: variant, accuracy (0-1), accuracy_low, accuracy_high, seconds, parameters.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    legible = {"fontsize": 9, "path_effects": [withStroke(linewidth=2.5, foreground="white")]}  # across other bars
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
        for row in rows:
            at, ends = (row[key], row["accuracy"]), (row["accuracy_low"], row["accuracy_high"])
            axes.plot([at[0], at[0]], ends, color=GREY, linewidth=1)
            axes.plot(*at, "o", color=AFTER)
            axes.annotate(row["variant"], at, xytext=(6, 3), textcoords="offset points", **legible)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.3)
        bare(axes)
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel("accuracy (95 %)")
    figure.suptitle(title, fontsize=10)
    save(figure, path)
