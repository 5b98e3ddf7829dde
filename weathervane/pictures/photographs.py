"""Pictures made of photographs: what augmentation makes of them, where a model errs, where two models part."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from weathervane.pictures.style import GREY, colours, save
from weathervane.pictures.tiles import grid, stretched
from weathervane.store import Store
from weathervane.words import brief

if TYPE_CHECKING:
    import pandas as pd

    from weathervane.monitor import Strange

MOST, COLUMNS = 18, 6  # photographs on a sheet, and in a row of it
NAME = 22  # last characters of a file's name that fit under a photograph
LINE = 24  # characters that fit under a photograph

Line = tuple[str, str]  # of a caption: text and the class whose colour it has


def contact_sheet(before: np.ndarray, after: list[np.ndarray], title: str, path: Path) -> None:
    """Images and what augmentation made of them, a row each.

    Args:
        before: uint8 [N, S, S, 3].
        after: several draws, uint8 [N, T, T, 3] each, which are shown at the size of the images.
    """
    from matplotlib.figure import Figure

    rows, columns = len(before), 1 + len(after)
    draws = [stretched(draw, before.shape[1]) for draw in after]
    tiles = np.stack([before, *draws], 1).reshape(-1, *before.shape[1:])
    whole = grid(tiles, columns)
    figure = Figure(figsize=(1.15 * columns, 1.15 * rows + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(whole)
    axes.set_frame_on(False)
    axes.set_yticks([])
    middles = (np.arange(columns) + 0.5) * whole.shape[1] / columns - 0.5
    axes.set_xticks(middles, ["image", *(f"draw {number}" for number in range(1, columns))], fontsize=8)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def mistakes(table: "pd.DataFrame", store: Store, classes: list[str], name: str, path: Path) -> None:
    """The images that a model is most sure about and wrong, with what it said; the surest first."""
    said = _said(table)
    wrong = said[said["predicted"] != said["label"]].sort_values(["sure", "sha256"], ascending=[False, True])
    captions = [[_is(row), _says(row["predicted"], row["sure"])] for _, row in wrong.iterrows()]
    heading = f"{name}: wrong on {len(wrong)} of {len(table)} images, the surest first"
    _of_store(wrong["sha256"].tolist(), captions, store, classes, heading, path)


def disagreements(
    challenger: "pd.DataFrame",
    champion: "pd.DataFrame",
    store: Store,
    classes: list[str],
    names: tuple[str, str],
    path: Path,
) -> None:
    """The images on which two models say different things: first where only the second is right, then only the first.

    Args:
        challenger: predictions; so is `champion`; images that both have are compared.
        names: what to call the two.
    """
    both = _said(challenger).merge(_said(champion), on=["sha256", "label"], suffixes=("_1", "_2"))
    differ = both[both["predicted_1"] != both["predicted_2"]]
    first, second = (differ[f"predicted_{number}"] == differ["label"] for number in (1, 2))
    differ = differ.assign(order=np.select([second, first], [0, 1], 2)).sort_values(["order", "label", "sha256"])
    captions = [
        [_is(row)]
        + [_says(row[f"predicted_{number}"], row[f"sure_{number}"], f"{names[number - 1]}: ") for number in (1, 2)]
        for _, row in differ.iterrows()
    ]
    heading = (
        f"{names[0]} and {names[1]} differ on {len(differ)} of {len(both)} images: "
        f"{first.sum()} right by {names[0]} alone, {second.sum()} by {names[1]} alone"
    )
    _of_store(differ["sha256"].tolist(), captions, store, classes, heading, path)


def _said(table: "pd.DataFrame") -> "pd.DataFrame":
    """sha256, label, predicted, and how sure the model was of it (0-1)."""
    return table[["sha256", "label", "predicted"]].assign(sure=table.filter(regex="^p_").max(axis=1))


def _is(row: "pd.Series") -> Line:
    return f"is {brief(row['label'], LINE - 3)}", row["label"]


def _says(label: str, sure: float, who: str = "taken for ") -> Line:
    return f"{who}{brief(label, LINE - 5 - len(who))} {sure:.0%}", label


def strangest(images: list["Strange"], files: int, classes: list[str], path: Path) -> None:
    """The photographs that are the furthest from all that a model has learnt from, with what it said."""
    captions = [[(one.path.rsplit("/", 1)[-1][-NAME:], ""), _says(one.label, one.confidence)] for one in images]
    heading = f"the strangest of {files} photographs, furthest from the training data first"
    sheet(np.stack([one.pixels for one in images]), captions, classes, heading, path)


def _of_store(
    sha256s: list[str], captions: list[list[Line]], store: Store, classes: list[str], heading: str, path: Path
) -> None:
    """As many of a store's images as there is room for; a note of how many there are."""
    shown = sha256s[:MOST]
    if len(shown) < len(sha256s):
        heading += f" ({len(shown)} shown)"
    pixels = store.pixels(np.array([store.row_of[sha256] for sha256 in shown], np.int64))
    sheet(pixels, captions[:MOST], classes, heading, path)


def sheet(pixels: np.ndarray, captions: list[list[Line]], classes: list[str], heading: str, path: Path) -> None:
    """Photographs, uint8 [N, S, S, 3], in a grid with lines below each."""
    from matplotlib.figure import Figure

    rows, side = -(-len(pixels) // COLUMNS), pixels.shape[1]
    figure = Figure(figsize=(1.6 * COLUMNS, 0.5 + 2.1 * rows), layout="constrained")
    figure.suptitle(heading, fontsize=10)
    colour, below, beside = colours(classes), round(0.36 * side), round(0.06 * side)
    if rows:
        axes = figure.subplots()
        axes.imshow(grid(pixels, COLUMNS, (below, beside)))
        axes.set_axis_off()
    for number, lines in enumerate(captions):
        row, column = divmod(number, COLUMNS)
        for line, (text, label) in enumerate(lines):
            axes.text(
                column * (side + beside) - 0.5,
                row * (side + below) + (1.04 + 0.12 * line) * side,
                text,
                va="top",
                fontsize=8,
                color=colour.get(label, GREY),
                parse_math=False,
            )
    save(figure, path)
