"""Learning curves: what metrics.jsonl says, drawn."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.weathervane.pictures.look import looked_at, of_colour, uncut
from weathervane.pictures.learning import learning_picture
from weathervane.pictures.style import AFTER


def record(accuracies: list[float]) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "metrics": {"train_loss": 1 / epoch, "val_loss": 2 / epoch, "val_accuracy": accuracy}}
        for epoch, accuracy in enumerate(accuracies, 1)
    ]


def dot(path: Path) -> float:
    """Where the mark of the kept epoch is, as a share of the picture's width: the column with the most ink."""
    pixels = looked_at(path)
    assert uncut(pixels)
    half = pixels.shape[1] // 2
    return (half + int(of_colour(pixels, AFTER)[:, half:].sum(0).argmax())) / pixels.shape[1]


def test_the_kept_epoch_is_marked(tmp_path: Path) -> None:
    """The mark stands on the epoch of the highest accuracy, of several equal ones on that of the lowest loss."""
    places = []
    for accuracies in ([0.9, *[0.5] * 9], [*[0.5] * 9, 0.9], [0.5] * 10):
        learning_picture(record(accuracies), "cnn", tmp_path / "l.png")
        places.append(dot(tmp_path / "l.png"))
    assert places[0] < 0.65 and places[1] > 0.9
    assert places[2] > 0.9


def test_one_epoch_is_drawn(tmp_path: Path) -> None:
    """A training of a single epoch has a picture, too."""
    learning_picture(record([0.5]), "cnn", tmp_path / "l.png")
    assert np.count_nonzero(of_colour(looked_at(tmp_path / "l.png"), AFTER)) > 20
