"""Pictures of predictions: valid PNGs that show what they should."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.weathervane.pictures.look import looked_at, marked, of_colour, uncut
from weathervane.pictures.answers import confusion_picture, curves_picture, reliability_picture
from weathervane.pictures.style import AFTER, BEFORE, colours


def confusion(classes: list[str], path: Path, title: str = "title", n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.choice(classes, n), "predicted": rng.choice(classes, n)})
    confusion_picture(table, classes, title, path)
    return looked_at(path)


def test_a_confusion_matrix_grows_with_its_classes(tmp_path: Path) -> None:
    """A PNG that opens, large enough to read: 50 pixels or more a class, nothing cut off at its edges."""
    for count in (2, 4, 12):
        pixels = confusion([f"class {number}" for number in range(count)], tmp_path / f"{count}.png")
        assert 50 * count < pixels.shape[1] < 200 + 120 * count
        assert 50 * count < pixels.shape[0] < 200 + 120 * count
        assert uncut(pixels)


def test_hundreds_of_classes_have_a_picture_that_opens(tmp_path: Path) -> None:
    """However many classes, the picture is no larger than a page, and nothing is cut off: Pillow refuses to open one of
    177 classes at their usual size."""
    pixels = confusion([f"class {number}" for number in range(200)], tmp_path / "200.png")
    assert max(pixels.shape) < 3000 and uncut(pixels)


def test_long_names_are_not_cut_off(tmp_path: Path) -> None:
    """A long title or class name widens the picture; all edges stay white."""
    short = confusion(["a", "b"], tmp_path / "short.png")
    title = confusion(["a", "b"], tmp_path / "title.png", "a variant with a very long name indeed: 12345 test images")
    names = confusion(["altocumulus castellanus", "cumulonimbus & thunderstorm"], tmp_path / "names.png")
    assert title.shape[1] > short.shape[1] and uncut(title)
    assert uncut(names)


@pytest.mark.filterwarnings("error")
def test_a_class_without_images_is_drawn(tmp_path: Path) -> None:
    """A row of zeros, not a division by zero; images of no predictions at all are drawn, too."""
    table = pd.DataFrame({"label": ["a", "a"], "predicted": ["a", "b"]})
    confusion_picture(table, ["a", "b", "c"], "t", tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 3000


def test_right_answers_are_dark(tmp_path: Path) -> None:
    """A perfect table has a dark diagonal and light cells beside it."""
    table = pd.DataFrame({"label": ["a", "b"] * 9, "predicted": ["a", "b"] * 9})
    confusion_picture(table, ["a", "b"], "t", tmp_path / "c.png")
    pixels = looked_at(tmp_path / "c.png")
    dark = (pixels[..., 2] > pixels[..., 0] + 60) & (pixels.sum(2) < 300)  # the darkest blue of the scale
    rows, columns = np.nonzero(dark)
    middle = rows.mean(), columns.mean()
    upper = dark[: int(middle[0])]
    assert dark.sum() > 5000
    assert np.nonzero(upper)[1].mean() < middle[1]  # upper left and lower right
    assert upper[:, int(middle[1]) + 3 :].sum() < 100


CLASSES = ["cloudy", "rain", "shine", "sunrise"]


def table(labels: list[str], sure: float = 0.7, right: float = 1.0) -> pd.DataFrame:
    """Predictions of `labels`, of which a share is right, each with the probability `sure`."""
    rng = np.random.default_rng(0)
    said = [label if rng.random() < right else rng.choice([c for c in CLASSES if c != label]) for label in labels]
    rest = (1 - sure) / (len(CLASSES) - 1)
    shares = {f"p_{c}": [sure if c == one else rest for one in said] for c in CLASSES}
    return pd.DataFrame({"label": labels, "predicted": said, "group": np.arange(len(labels))} | shares)


@pytest.mark.filterwarnings("error")
def test_each_class_that_occurs_has_its_curves(tmp_path: Path) -> None:
    """A curve in the class's own colour, left and right; a class without images has none, and no warning comes."""
    curves_picture(table(CLASSES[:3] * 20, right=0.8), CLASSES, "t", tmp_path / "c.png")
    pixels = looked_at(tmp_path / "c.png")
    half = pixels.shape[1] // 2
    assert uncut(pixels)
    for label, colour in colours(CLASSES).items():
        for side in (pixels[:, :half], pixels[:, half:]):
            assert (marked(side, colour) > 200) == (label != "sunrise"), label


def test_a_perfect_classs_roc_turns_in_the_corner(tmp_path: Path) -> None:
    """Nothing of it lies inside of the picture, where the curve of a class that is guessed runs."""
    blue = colours(CLASSES)["cloudy"]
    for right, inside in ((1.0, False), (0.3, True)):
        curves_picture(table(CLASSES * 20, right=right), CLASSES, "t", tmp_path / "c.png")
        pixels = looked_at(tmp_path / "c.png")
        middle = pixels[150:300, 150:350]
        assert (marked(middle, blue) > 20) == inside


def test_a_class_that_is_alone_has_no_curves(tmp_path: Path) -> None:
    """There is nothing to tell it from: empty axes, not an error."""
    curves_picture(table(["rain"] * 9), CLASSES, "t", tmp_path / "c.png")
    assert marked(looked_at(tmp_path / "c.png"), colours(CLASSES)["rain"]) == 0


def test_reliability_before_and_after_stand_where_they_should(tmp_path: Path) -> None:
    """At 0.5 stated and all right the point is in the middle, at the top; 0.9 stated lies to its right."""
    labels = CLASSES * 25
    before, after = table(labels, sure=0.5), table(labels, sure=0.9)
    reliability_picture(before, after, CLASSES, "t", tmp_path / "r.png")
    pixels = looked_at(tmp_path / "r.png")
    plot = pixels[: pixels.shape[0] * 3 // 4]  # above the legend
    places = {}
    for name, colour in (("before", BEFORE), ("after", AFTER)):
        rows, columns = np.nonzero(of_colour(plot, colour))
        assert len(rows) > 40
        places[name] = (rows.mean() / pixels.shape[0], columns.mean() / pixels.shape[1])
    assert places["before"][0] < 0.15 and places["after"][0] < 0.15
    assert 0.45 < places["before"][1] < 0.65 < 0.8 < places["after"][1]
