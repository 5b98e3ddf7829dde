"""A covered image: the probability falls where the evidence is, and nowhere else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.exam import CLASSES, exam, student
from tests.weathervane.pictures.look import looked_at, uncut
from weathervane.device import resident
from weathervane.pictures.occlusion import PLACES, SIDE, examples, occluded, occlusion_picture


def test_a_class_that_hangs_on_one_pixel_falls_where_that_is_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network reads one pixel and nothing else: its answer goes where the square lies on it, and stays as it is
    everywhere else, to the last bit; also where a few images at a time go through it."""
    monkeypatch.setattr("weathervane.pictures.occlusion.eval_batch_size", lambda net, size: 7)
    store, number = exam(tmp_path), 21  # row 2, column 5 of 8 x 8
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    pixels[0, 2, 5, 1] = 255
    model = student(number, store.classes)
    (image,) = resident(pixels, 8, model.device)
    found = occluded(model, image, 1)
    before = model.probabilities(pixels)[0, 1]
    half, middles = 8 / SIDE / 2, (np.arange(PLACES) + 0.5) * 8 / PLACES
    covers = (np.abs(2.5 - middles) < half)[:, None] & (np.abs(5.5 - middles) < half)
    assert before > 0.8 and found.shape == (PLACES, PLACES) and 4 <= covers.sum() <= 16
    assert (found[~torch.from_numpy(covers)] == before).all()
    assert (found[torch.from_numpy(covers)] < before - 0.3).all()


def test_one_image_of_each_class_is_looked_at(tmp_path: Path) -> None:
    """The one that the model is neither sure nor unsure of; of a class that is never right, too."""
    store = exam(tmp_path, images=9)
    rows = store.part("test")
    sure = np.array([0.1, 0.5, 0.9, 0.7, 0.4, 0.99, 0.3, 0.2, 0.8])
    labels = store.manifest["label"][rows]
    shares = {f"p_{label}": np.where(labels == label, sure, (1 - sure) / 2) for label in CLASSES}
    table = pd.DataFrame({"label": labels, "sha256": store.manifest["sha256"][rows]} | shares)
    assert examples(table, store).tolist() == [rows[3], rows[1], rows[8]]


def test_the_map_stands_below_its_image(tmp_path: Path) -> None:
    """The dark place of a map is below the pixel that the class hangs on, and the rest is bright."""
    store = exam(tmp_path / "exam", [], images=3)
    model = student(0, store.classes)
    occlusion_picture(model, store, store.part("test")[:1], "dnn", tmp_path / "o.png")
    pixels = looked_at(tmp_path / "o.png")
    assert uncut(pixels)
    below = pixels[pixels.shape[0] * 55 // 100 :, : pixels.shape[1] * 55 // 100]
    yellow = (below[..., 0] > 180) & (below[..., 2] < 90)
    dark = (below[..., 2] > below[..., 0] + 25) & (below.sum(2) < 420)
    assert yellow.sum() > 10 * dark.sum() > 1000
    assert [dark.nonzero()[axis].mean() < yellow.nonzero()[axis].mean() for axis in (0, 1)] == [True, True]
