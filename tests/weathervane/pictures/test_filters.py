"""Filters of the first layer: its very weights, as they meet an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.weathervane.pictures.look import looked_at, uncut
from weathervane.layers import Bands, Recurrent, conv_norm
from weathervane.pictures.filters import MOST, filters_picture, first_filters
from weathervane.pictures.tiles import enlarged, grid, signed


def ordered(weight: Tensor) -> Tensor:
    """The rows of a weight, the largest first."""
    return weight.detach()[weight.detach().flatten(1).norm(dim=1).argsort(descending=True)]


def test_a_convolutions_filters_are_its_weights() -> None:
    """The first convolution's, the strongest first, whatever follows."""
    net = nn.Sequential(
        *conv_norm(3, 8, stride=2, kernel=5), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(4, 2)
    )
    net[-1] = nn.Linear(4 * 6 * 6, 2)
    filters, units = first_filters(net, 16)
    assert units == 8 and torch.allclose(filters, ordered(net[0].weight), atol=1e-6)


def test_a_relu_in_place_takes_nothing_away() -> None:
    """As in VGG: it overwrites what the convolution gave, which on a black image is the bias, here below 0."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 6 * 6, 2))
    nn.init.constant_(net[0].bias, -1.0)
    assert torch.allclose(first_filters(net, 8)[0], ordered(net[0].weight), atol=1e-6)


def test_a_fully_connected_units_filter_is_an_image() -> None:
    """Each weight stands where its pixel is; after pooling, over the pixels that were pooled."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 60), nn.ReLU(), nn.Linear(60, 2))
    filters, units = first_filters(net, 8)
    weights = ordered(net[2].weight)[:MOST].unflatten(1, (3, 4, 4))
    assert units == 60 and filters.shape == (MOST, 3, 8, 8)
    assert torch.allclose(filters, weights.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4, atol=1e-6)


@pytest.mark.parametrize("embedded", [True, False])
def test_what_reads_steps_has_filters_of_a_step(embedded: bool) -> None:
    """Bands of two rows, embedded or read by a recurrent layer itself: a filter is such a band, in its place."""
    first: list[nn.Module] = [nn.Linear(3 * 2 * 8, 5)] if embedded else []
    reader = nn.RNN(5 if embedded else 48, 6, batch_first=True)
    net = nn.Sequential(Bands(2), *first, Recurrent(reader), nn.Linear(6, 2))
    filters, units = first_filters(net, 8)
    weight = net[1].weight if embedded else reader.weight_ih_l0
    assert units == len(weight) and filters.shape == (units, 3, 2, 8)
    assert torch.allclose(filters, ordered(weight).unflatten(1, (2, 3, 8)).transpose(1, 2), atol=1e-6)


def test_each_filter_is_a_tile(tmp_path: Path) -> None:
    """Six filters that see one colour each: six tiles of it, and grey where a weight is next to 0."""
    net = nn.Sequential(nn.Conv2d(3, 6, 2, bias=False), nn.Flatten(), nn.Linear(6 * 49, 2))
    with torch.no_grad():
        net[0].weight.fill_(1e-5)
        for number in range(6):
            net[0].weight[number, number % 3, 0, 0] = 1.0 + number
    filters_picture(net, 8, "cnn", tmp_path / "f.png")
    pixels = looked_at(tmp_path / "f.png")
    assert uncut(pixels)
    tops = [
        (pixels == 255)[..., channel] & ((pixels[..., other] - 128) ** 2 < 4)
        for channel, other in ((0, 1), (1, 2), (2, 0))
    ]
    areas = [top.sum() for top in tops]
    assert min(areas) > 10_000 and max(areas) < 1.1 * min(areas)
    grey = (np.abs(pixels - 128) < 2).all(2).sum()
    assert grey == pytest.approx(3 * sum(areas), rel=0.1)


def test_tiles_stand_in_reading_order() -> None:
    """A row is full before the next one begins; what is left of the last one stays white, and so do the gaps."""
    tiles = np.arange(5)[:, None, None, None] / 10 + np.zeros((5, 2, 3, 3))
    whole = grid(tiles, 3, (1, 1))
    assert whole.shape == (5, 11, 3)
    assert [whole[0, 0, 0], whole[0, 4, 0], whole[0, 8, 0], whole[3, 0, 0], whole[3, 4, 0]] == [0, 0.1, 0.2, 0.3, 0.4]
    assert (whole[2] == 1).all() and (whole[:, 3] == 1).all() and (whole[3:, 8:] == 1).all()
    assert enlarged(tiles, 7).shape == (5, 4, 6, 3)


@pytest.mark.filterwarnings("error")
def test_grey_is_zero_and_the_largest_value_is_full() -> None:
    """Each image is stretched to its own largest value, of either sign; an image of zeros is grey."""
    values = np.zeros((2, 2, 2, 3))
    values[0, 0, 0] = [-4, 0, 2]
    assert signed(values)[0, 0, 0].tolist() == [0, 0.5, 0.75]
    assert (signed(values)[1] == 0.5).all()
