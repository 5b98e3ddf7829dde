"""Pictures for the tracker: valid PNGs that show what they should."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from weathervane.pictures import confusion_picture, contact_sheet


def confusion(classes: list[str], path: Path, title: str = "title", n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.choice(classes, n), "predicted": rng.choice(classes, n)})
    confusion_picture(table, classes, title, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), np.int16)


def test_a_confusion_matrix_grows_with_its_classes(tmp_path: Path) -> None:
    """A PNG that opens, large enough to read: 50 pixels or more a class, nothing cut off at its edges."""
    for count in (2, 4, 12):
        pixels = confusion([f"class {number}" for number in range(count)], tmp_path / f"{count}.png")
        assert 50 * count < pixels.shape[1] < 200 + 120 * count
        assert 50 * count < pixels.shape[0] < 200 + 120 * count
        assert uncut(pixels)


def uncut(pixels: np.ndarray) -> bool:
    """True if all four edges are white: no ink runs out of the picture."""
    return all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


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
    with Image.open(tmp_path / "c.png") as image:
        pixels = np.asarray(image.convert("RGB"), int)
    dark = (pixels[..., 2] > pixels[..., 0] + 60) & (pixels.sum(2) < 300)  # the darkest blue of the scale
    rows, columns = np.nonzero(dark)
    middle = rows.mean(), columns.mean()
    upper = dark[: int(middle[0])]
    assert dark.sum() > 5000
    assert np.nonzero(upper)[1].mean() < middle[1]  # upper left and lower right
    assert upper[:, int(middle[1]) + 3 :].sum() < 100


def test_a_contact_sheet_shows_every_image_and_draw(tmp_path: Path) -> None:
    """A row an image, a column a draw: each cell has the colour of its picture, in its place."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (3, 1, 1, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    after = [rng.integers(0, 256, (3, 1, 1, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2) for _ in range(4)]
    contact_sheet(before, after, "a variant with a very long name indeed: what augmentation makes", tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert uncut(pixels)
    assert 80 * 5 < pixels.shape[1] < 300 * 5 and 80 * 3 < pixels.shape[0] < 300 * 3
    centres = {}
    for column, images in enumerate([before, *after]):
        for row in range(3):
            y, x = np.nonzero((pixels == images[row, 0, 0]).all(2))
            assert len(y) > 60 * 60, (row, column)
            centres[row, column] = (y.mean(), x.mean())
    for row in range(3):
        assert np.std([centres[row, column][0] for column in range(5)]) < 1
    for column in range(5):
        assert np.std([centres[row, column][1] for row in range(3)]) < 1
    assert centres[0, 0][0] < centres[1, 0][0] < centres[2, 0][0] and centres[0, 0][1] < centres[0, 1][1]


def test_a_sheet_of_one_image_and_one_draw(tmp_path: Path) -> None:
    """The smallest sheet works, too."""
    one = np.zeros((1, 8, 8, 3), np.uint8)
    contact_sheet(one, [one], "t", tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        image.verify()
