"""The patches that a unit fires at: the true maxima, cut out where they are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from tests.weathervane.pictures.look import looked_at, uncut
from weathervane.device import normalise, to_float
from weathervane.model import Model, Spec
from weathervane.pictures.deconvolution import feature_maps
from weathervane.pictures.patches import BEST, patches, patches_picture, peaks, telling, windows
from weathervane.store import Store, seal

CPU = torch.device("cpu")
RED, BLUE = (250, 20, 20), (20, 20, 250)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """24 black test images of 32 pixels, each with a square of 8: red in class a, blue in class b, the brighter the
    later; the store keeps twice the pixels of the network."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    pixels = np.zeros((24, 32, 32, 3), np.uint8)
    for number in range(24):
        y, x = 2 * rng.integers(0, 13, 2)
        pixels[number, y : y + 8, x : x + 8] = np.array((RED, BLUE)[number % 2]) * (number + 12) // 36
    (folder / "pixels").mkdir()
    np.save(folder / "pixels/00000.npy", pixels)
    table = {"sha256": [f"image {number:02}" for number in range(24)], "label": ["a", "b"] * 12}
    pq.write_table(pa.table(table | {"split": ["test"] * 24, "fold": [-1] * 24}), folder / "manifest.parquet")
    seal(folder)
    return Store(folder)


@pytest.fixture
def net() -> nn.Module:
    """Unit 0 of the middle layer fires at squares of red, unit 1 at blue ones."""
    first, second = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
    with torch.no_grad():
        for layer, wanted in ((first, [[1, 0, -1], [-1, 0, 1]]), (second, [[1, 0], [0, 1]])):
            layer.bias.zero_()
            layer.weight.copy_(torch.tensor(wanted, dtype=torch.float)[:, :, None, None].expand_as(layer.weight))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()).eval()


def shrunk(store: Store) -> torch.Tensor:
    return torch.from_numpy(store.pixels(np.arange(24))).permute(0, 3, 1, 2)[:, :, ::2, ::2]


def inputs(store: Store) -> torch.Tensor:
    return normalise(to_float(shrunk(store)))


def test_peaks_are_the_true_maxima() -> None:
    """Of any maps, the largest activation of each unit in each image, and how far from the middle it lies."""
    maps = torch.randn(40, 3, 5, 7)
    values, places = peaks(maps)
    assert torch.equal(values, maps.amax((2, 3)))
    rows, columns = (places * torch.tensor([5, 7]) + torch.tensor([2, 3])).round().long().unbind(2)
    image, number = torch.arange(40)[:, None], torch.arange(3)
    assert torch.equal(maps[image, number, rows, columns], values)


def test_units_that_tell_a_class_apart_come_first() -> None:
    """The best one of each class in turn, none twice; what fires everywhere comes last."""
    labels = np.array(["a", "b", "c"] * 10)
    values = torch.rand(30, 5) * 0.1
    for number, label in ((3, "a"), (0, "b"), (4, "c")):
        values[:, number] += torch.from_numpy(labels == label)
    values[:, 1] += 5
    assert telling(values, labels)[:3] == [3, 0, 4]
    assert sorted(telling(values, labels)) == [0, 1, 2, 3, 4]


def test_patches_hold_what_the_unit_fires_at(squares: Store, net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine images of the unit's own colour, the brightest first, of all that went through the network in several
    blocks; the square that the unit sees lies on the coloured one, and nothing outside of it has caused anything."""
    monkeypatch.setattr("weathervane.pictures.patches.eval_batch_size", lambda net, size: 28)
    images = inputs(squares)
    found = patches(net, shrunk(squares), squares.manifest["label"])
    assert found is not None and found.side == 5 and sorted(found.units) == [0, 1]
    maps = feature_maps(net, images)[1]
    for number, own in zip(found.units, found.images, strict=True):
        assert own.tolist() == list(range(22 + number, 5 + number, -2))
        assert own.tolist() == maps[:, number].flatten(1).amax(1).argsort(descending=True)[:BEST].tolist()
    for own, corners, caused in zip(found.images, found.corners, found.caused, strict=True):
        for image, (y, x), back in zip(own, corners.tolist(), caused, strict=True):
            inside = torch.zeros(16, 16, dtype=torch.bool)
            inside[y : y + 5, x : x + 5] = True
            assert (back[:, ~inside] == 0).all() and (back[:, inside] != 0).any()
            lit = images[image] > images[image].amin((1, 2), keepdim=True) + 0.1
            assert lit.any(0)[y : y + 5, x : x + 5].float().mean() > 0.5


def test_a_square_that_begins_a_pixel_too_far_is_within_the_image() -> None:
    """Corner and side, both rounded to the stored pixels, may come to one more than there are."""
    images = np.arange(2 * 5 * 5 * 3).reshape(2, 5, 5, 3)
    found = windows(images, np.array([[0, 1], [3, 2]]), 3)
    np.testing.assert_array_equal(found[0], images[0, 0:3, 1:4])
    np.testing.assert_array_equal(found[1], images[1, 2:5, 2:5])


def test_the_picture_shows_the_patches_beside_their_causes(squares: Store, net: nn.Module, tmp_path: Path) -> None:
    """A unit's half has patches of its colour, to the left, and as much ink to the right, around a middle of grey."""
    spec = Spec("cnn", "cnn", {}, 16, 32, ["a", "b"], False)
    patches_picture(Model(net, spec, CPU), squares, "cnn", tmp_path / "p.png")
    pixels = looked_at(tmp_path / "p.png")
    assert uncut(pixels)
    middle = pixels.shape[1] // 2
    for half, channel, other in ((pixels[:, :middle], 0, 2), (pixels[:, middle:], 2, 0)):
        coloured = (half[..., channel] > 90) & (half[..., other] < 30) & (half[..., 1] < 30)
        ink = (half < 255).any(2)[60:]
        left, right = ink[:, : middle // 2].sum(), ink[:, middle // 2 :].sum()
        assert coloured.sum() > 5_000 and coloured[:, : middle // 2].sum() > 5 * coloured[:, middle // 2 :].sum()
        assert left == pytest.approx(right, rel=0.1)
