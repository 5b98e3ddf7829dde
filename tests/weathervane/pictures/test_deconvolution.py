"""The way back from a unit to the image, against what can be computed by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.layers import Residual, conv_norm
from weathervane.pictures.deconvolution import deconvolved, feature_maps, guided, middle

IMAGES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
UNITS = torch.tensor([0, 2, 1])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def alone(maps: Tensor) -> Tensor:
    """Maps of features in which only the largest activation of each image's unit is left."""
    own = maps[torch.arange(len(maps)), UNITS].flatten(1)
    signal = torch.zeros_like(maps)
    for image, (unit, place) in enumerate(zip(UNITS.tolist(), own.argmax(1).tolist(), strict=True)):
        signal[image, unit].view(-1)[place] = own[image, place]
    return signal


@pytest.mark.parametrize("stride", [1, 2])
def test_of_one_convolution_it_is_the_transposed_one(stride: int) -> None:
    """The largest activation, alone, through the transpose of the filter."""
    conv = nn.Conv2d(3, 4, 3, stride)
    net = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    signal = alone(conv(IMAGES).relu())
    assert (signal != 0).sum() == 3
    wanted = F.conv_transpose2d(signal, conv.weight, stride=stride, output_padding=1 if stride == 2 else 0)
    assert torch.allclose(deconvolved(net, IMAGES, 0, UNITS), wanted, atol=1e-6)


def test_signals_are_rectified_and_go_to_the_places_of_the_maxima() -> None:
    """Two convolutions with max-pooling in between, as Zeiler & Fergus draw it: transpose, unpool by the places of the
    maxima, rectify what comes back (and nothing else), transpose."""
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 2)
    net = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    assert not guided(net)
    features = first(IMAGES).relu()
    pooled, places = F.max_pool2d(features, 2, return_indices=True)
    back = F.conv_transpose2d(alone(second(pooled).relu()), second.weight)
    unpooled = F.max_unpool2d(back, places, 2, output_size=features.shape[2:])
    wanted = F.conv_transpose2d(unpooled.relu(), first.weight)
    found = deconvolved(net, IMAGES, 1, UNITS)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert not torch.allclose(found, F.conv_transpose2d(unpooled, first.weight), atol=1e-3)


def test_without_max_pooling_the_unit_must_have_been_on() -> None:
    """Then the way back would be the same for every image; so a signal passes only where the unit was on, too."""
    first, second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 2, stride=2)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    assert guided(net)
    features = first(IMAGES).relu()
    back = F.conv_transpose2d(alone(second(features).relu()), second.weight, stride=2)
    wanted = F.conv_transpose2d(back.relu() * (features > 0), first.weight)
    assert torch.allclose(deconvolved(net, IMAGES, 1, UNITS), wanted, atol=1e-6)


def test_a_residual_blocks_signal_takes_both_ways() -> None:
    """Rectified where body and shortcut meet, in a plain function; what both bring back is added."""
    block = Residual(3, 3)
    with torch.no_grad():
        block.body[-1].weight.fill_(1.0)
    net = nn.Sequential(block, nn.Flatten(), nn.LazyLinear(2)).eval()
    scale = (1 + 1e-5) ** -0.5  # of a normalisation that has seen nothing yet
    first, second = block.body[0], block.body[3]
    inner = (scale * first(IMAGES)).relu()
    signal = alone((scale * second(inner) + IMAGES).relu())
    back = F.conv_transpose2d(scale * signal, second.weight, padding=1).relu() * (inner > 0)
    wanted = signal + F.conv_transpose2d(scale * back, first.weight, padding=1)
    assert torch.allclose(deconvolved(net, IMAGES, 1, UNITS), wanted, atol=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.GELU()])
def test_activations_are_met_whatever_they_are_called(activation: nn.Module) -> None:
    """Their outputs are the maps of features, and the network computes what it did; no weight gets a gradient."""
    net = nn.Sequential(
        *conv_norm(3, 5), activation, *conv_norm(5, 5), activation, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    before = net.eval()(IMAGES)
    maps = feature_maps(net, IMAGES)
    assert [tuple(one.shape) for one in maps] == [(3, 5, 12, 12)] * 2
    assert torch.equal(maps[1].mean((2, 3)), before) and torch.equal(net(IMAGES), before)
    deconvolved(net, IMAGES, 1, UNITS)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_middle_layer_sees_half_of_the_image() -> None:
    """Convolutions of 3x3 see 3, 5 and 7 pixels across: of 12 pixels, the one with 5 is chosen, around the middle."""
    layers = [layer for before in (3, 4, 4) for layer in (nn.Conv2d(before, 4, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2)).eval()
    net(IMAGES)
    found = middle(net, 12)
    assert found is not None
    level, corner, side = found
    assert (level, corner.tolist(), side) == (1, [4, 4], 5)
    assert middle(nn.Sequential(nn.Flatten(), nn.Linear(432, 9), nn.ReLU()), 12) is None
