"""Accuracy against its cost: what is where in the picture."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import center_of_mass, label

from tests.weathervane.pictures.look import looked_at, of_colour, uncut
from weathervane.pictures.style import AFTER
from weathervane.pictures.tradeoff import tradeoff_picture


def row(name: str, accuracy: float, seconds: float, parameters: int) -> dict[str, Any]:
    ends = {"accuracy_low": accuracy - 0.02, "accuracy_high": accuracy + 0.02}
    return {"variant": name, "accuracy": accuracy, "seconds": seconds, "parameters": parameters, **ends}


def test_each_variant_stands_where_its_figures_say(tmp_path: Path) -> None:
    """In both panels each variant is a dot: the more accurate one higher, the more costly one further right, in
    proportion to the logarithm of its cost."""
    rows = [row("ann", 0.7, 1, 100), row("dnn", 0.8, 10, 1_000_000), row("cnn", 0.9, 100, 10_000)]
    tradeoff_picture(rows, "weather: 883 images, 5 folds", tmp_path / "t.png")
    pixels = looked_at(tmp_path / "t.png")
    assert uncut(pixels)
    blobs, count = label(of_colour(pixels, AFTER))
    assert count == 6
    places = np.array(center_of_mass(blobs > 0, blobs, range(1, 7)))
    half = pixels.shape[1] / 2
    for order, panel in (([0, 1, 2], places[places[:, 1] < half]), ([0, 2, 1], places[places[:, 1] > half])):
        by_accuracy = panel[np.argsort(-panel[:, 0])]
        heights, across = by_accuracy[:, 0], by_accuracy[order, 1]
        assert abs((heights[0] - heights[1]) - (heights[1] - heights[2])) < 2
        assert across[0] < across[1] < across[2]
        assert abs((across[1] - across[0]) - (across[2] - across[1])) < 2


def test_one_variant_is_drawn(tmp_path: Path) -> None:
    """A single variant has a picture, too."""
    tradeoff_picture([row("cnn", 0.9, 60, 1000)], "one", tmp_path / "t.png")
    assert label(of_colour(looked_at(tmp_path / "t.png"), AFTER))[1] == 2
