"""Characters that matplotlib's own font lacks."""

import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from weathervane.pictures.fonts import lacking
from weathervane.pictures.style import save


def boxes(figure: Figure) -> set[int]:
    with lacking() as points:
        figure.draw_without_rendering()
    return points


def test_another_font_has_what_the_first_one_lacks(tmp_path: Path) -> None:
    """A class whose name is written in letters of another script can be read in pictures, wherever a font has them: in
    titles as beside axes. (matplotlib brings the font that has this one along.)"""
    figure = Figure()
    figure.subplots().set_xticks([0, 1], ["rain", "ᶁ"])
    figure.suptitle("ᶁ for rain")
    assert boxes(figure) == {ord("ᶁ")}
    save(figure, tmp_path / "picture.png")
    assert boxes(figure) == set()


def test_what_no_font_has_is_a_box_and_no_warning(tmp_path: Path) -> None:
    """Evaluation goes on without a word; what else there is to warn of is still told."""
    figure = Figure()
    figure.suptitle("\U0010fffd")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "picture.png")
    assert boxes(figure) == {0x10FFFD} and (tmp_path / "picture.png").stat().st_size > 500
    with pytest.warns(UserWarning, match="something else"), lacking() as points:
        warnings.warn("something else", stacklevel=1)
    assert points == set()
