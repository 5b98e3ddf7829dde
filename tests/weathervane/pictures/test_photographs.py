"""Pictures made of photographs: each photograph is there, in its place."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.weathervane.pictures.look import looked_at, marked, uncut
from weathervane.pictures.photographs import MOST, contact_sheet, disagreements, mistakes
from weathervane.pictures.style import colours
from weathervane.store import Store, seal

CLASSES = ["rain", "shine"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """30 images of one colour each, half of them rain."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "pixels").mkdir()
    pixels = np.random.default_rng(0).integers(0, 250, (30, 1, 1, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    np.save(folder / "pixels/00000.npy", pixels)
    labels = ["rain", "shine"] * 15
    manifest = {"sha256": [f"image {number:02}" for number in range(30)], "label": labels}
    pq.write_table(pa.table(manifest), folder / "manifest.parquet")
    seal(folder)
    return Store(folder)


def said(store: Store, wrong: dict[int, float]) -> pd.DataFrame:
    """Predictions of all images: right and 0.8 sure, but for `wrong` ones, which are as sure as told."""
    label = store.manifest["label"]
    predicted = [CLASSES[(one == "rain") == (row in wrong)] for row, one in enumerate(label)]
    sure = [wrong.get(row, 0.8) for row in range(len(label))]
    shares = {f"p_{c}": [s if c == one else 1 - s for s, one in zip(sure, predicted, strict=True)] for c in CLASSES}
    return pd.DataFrame({"sha256": store.manifest["sha256"], "label": label, "predicted": predicted} | shares)


def places(path: Path, store: Store) -> dict[int, tuple[int, int]]:
    """Where the images are that are to be seen in a picture: number of the image → row and column of its middle."""
    pixels, found = looked_at(path), {}
    assert uncut(pixels)
    for number, colour in enumerate(store.pixels(np.arange(30))[:, 0, 0]):
        y, x = np.nonzero((pixels == colour).all(2))
        if len(y) > 50 * 50:
            found[number] = (int(y.mean()), int(x.mean()))
    return found


def test_the_surest_mistakes_come_first(plain: Store, tmp_path: Path) -> None:
    """Only the wrong ones are shown, the surest to the upper left, in rows."""
    wrong = {3: 0.6, 7: 0.99, 12: 0.7, 20: 0.95, 21: 0.8, 22: 0.75, 23: 0.65}
    mistakes(said(plain, wrong), plain, CLASSES, "cnn", tmp_path / "m.png")
    found = places(tmp_path / "m.png", plain)
    assert sorted(found, key=lambda number: (found[number][0] // 20, found[number][1])) == [7, 20, 21, 22, 12, 23, 3]


def test_what_is_said_has_the_classs_colour(plain: Store, tmp_path: Path) -> None:
    """A rain taken for shine has a caption in both colours."""
    mistakes(said(plain, {0: 0.9}), plain, CLASSES, "cnn", tmp_path / "m.png")
    for colour in colours(CLASSES).values():
        assert marked(looked_at(tmp_path / "m.png"), colour, within=60) > 10  # letters are thin, and so blended


def test_a_sheet_has_room_for_so_many(plain: Store, tmp_path: Path) -> None:
    """More mistakes than there is room for: the surest are shown; none at all: a title, no error."""
    wrong = {number: 0.6 + number / 100 for number in range(30)}
    mistakes(said(plain, wrong), plain, CLASSES, "cnn", tmp_path / "m.png")
    assert set(places(tmp_path / "m.png", plain)) == set(range(30 - MOST, 30))
    mistakes(said(plain, {}), plain, CLASSES, "cnn", tmp_path / "none.png")
    assert places(tmp_path / "none.png", plain) == {}
    assert marked(looked_at(tmp_path / "none.png"), "black") > 50


def test_disagreements_are_where_two_models_differ(plain: Store, tmp_path: Path) -> None:
    """Those that only the champion has right come first, then those that only the challenger has; no others."""
    challenger, champion = said(plain, {1: 0.9, 2: 0.9, 5: 0.7}), said(plain, {1: 0.6, 9: 0.7, 10: 0.7})
    disagreements(challenger, champion.iloc[::-1], plain, CLASSES, ("cnn", "version 3"), tmp_path / "d.png")
    found = places(tmp_path / "d.png", plain)
    assert set(sorted(found, key=lambda number: found[number][1])[:2]) == {2, 5}
    assert set(found) == {2, 5, 9, 10}


def test_a_contact_sheet_shows_every_image_and_draw(tmp_path: Path) -> None:
    """A row an image, a column a draw: each cell has the colour of its picture, in its place, also where training sees
    its images smaller than they are."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (3, 1, 1, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    after = [rng.integers(0, 256, (3, 1, 1, 3), dtype=np.uint8).repeat(14, 1).repeat(14, 2) for _ in range(4)]
    contact_sheet(before, after, "a variant with a very long name indeed: what augmentation makes", tmp_path / "s.png")
    pixels = looked_at(tmp_path / "s.png")
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
    """The smallest sheet shows its image twice, too."""
    one = np.full((1, 8, 8, 3), (200, 0, 0), np.uint8)
    contact_sheet(one, [one], "t", tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert (np.asarray(image.convert("RGB")) == (200, 0, 0)).all(2).sum() > 2 * 60 * 60
