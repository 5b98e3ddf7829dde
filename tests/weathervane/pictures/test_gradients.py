"""Gradients through layers and steps, drawn: what is small is pale, what fades goes down."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from tests.weathervane.pictures.look import looked_at, marked, of_colour, uncut
from weathervane.pictures.gradients import layer_label, layers_picture, steps_picture
from weathervane.pictures.style import BAR

NET = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Linear(8, 4))


def record(norms: list[dict[str, float]], steps: list[list[float]] | None = None) -> list[dict[str, Any]]:
    return [{"epoch": n, "layers": one, "steps": {"1.reader": steps}} for n, one in enumerate(norms, 1)]


def halves(path: Path) -> list[float]:
    """How light the rows of a heat map of two layers are, 0-255: blue takes the red away."""
    pixels = looked_at(path)
    assert uncut(pixels)
    middle = pixels.shape[1] // 2
    return [float(pixels[pixels.shape[0] * place // 100, middle - 40 : middle + 40, 0].mean()) for place in (30, 55)]


def test_what_is_small_is_pale_and_small_differences_look_small(tmp_path: Path) -> None:
    """A first layer with a ten-thousandth of the last's gradient is nearly white above a dark row; with half of it,
    both are alike."""
    for first, apart in ((1e-4, True), (0.4, False)):
        layers_picture(record([{"0.weight": first, "2.weight": 0.9}] * 5), NET, "dnn", tmp_path / "g.png")
        above, below = halves(tmp_path / "g.png")
        assert (above > below + 150) == apart and (abs(above - below) < 60) == (not apart)


@pytest.mark.filterwarnings("error")
def test_no_gradient_is_grey(tmp_path: Path) -> None:
    """A layer that was frozen at first is grey until it was not; a record without any norm is drawn, too."""
    lines = record([{"2.weight": 0.9}] * 5 + [{"0.weight": 0.5, "2.weight": 0.9}] * 5)
    layers_picture(lines, NET, "transfer", tmp_path / "g.png")
    grey = of_colour(looked_at(tmp_path / "g.png"), BAR)
    height, width = grey.shape
    assert grey.sum() > 3000 and grey[: height // 2, : width * 65 // 100].sum() > 0.97 * grey.sum()  # the rest: letters
    layers_picture(record([{}]), NET, "resumed", tmp_path / "none.png")
    assert marked(looked_at(tmp_path / "none.png"), BAR) > 20_000


def test_layers_are_named_by_what_they_are() -> None:
    """Kind, kernel and units; the weights of a recurrent layer by where they read from."""
    assert layer_label(NET, "0.weight") == "conv 5×5, 3→8"
    assert layer_label(NET, "2.weight") == "linear, 8→4"
    reader = nn.ModuleList([nn.LSTM(3, 4, 2, bidirectional=True)])
    assert layer_label(reader, "0.weight_ih_l0") == "lstm 1, from input"
    assert layer_label(reader, "0.weight_hh_l1_reverse") == "lstm 2, from state, back"


def test_a_gradient_that_fades_goes_down_to_the_left(tmp_path: Path) -> None:
    """The line of a sequence of which the first step gets a millionth begins at the foot, one that hands all of it on
    stays at the top; a direction without a gradient has no line."""
    heights = {}
    for name, share in (("fades", 0.25), ("stays", 1.0)):
        steps = [[share**back for back in range(10, -1, -1)], [0.0] * 11]
        steps_picture(record([{}] * 3, steps), "rnn", tmp_path / f"{name}.png")
        pixels = looked_at(tmp_path / f"{name}.png")
        assert uncut(pixels)
        line = of_colour(pixels, "#08306b", within=10)[:, : pixels.shape[1] // 4]  # the last epoch's, to the left
        heights[name] = np.nonzero(line)[0].mean() / len(pixels)
    assert heights["stays"] < 0.3 and heights["fades"] > 0.6


def test_one_epoch_is_drawn(tmp_path: Path) -> None:
    """A training of a single epoch has both pictures."""
    lines = record([{"0.weight": 0.5, "2.weight": 0.9}], [[0.1, 1.0]])
    layers_picture(lines, NET, "one", tmp_path / "g.png")
    steps_picture(lines, "one", tmp_path / "s.png")
    assert uncut(looked_at(tmp_path / "g.png")) and uncut(looked_at(tmp_path / "s.png"))
