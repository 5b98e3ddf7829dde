"""A small residual network: convolution and pooling, with a shortcut around every pair of layers."""

from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`width`: channels of the first stage, doubled at each of the `stages` - 1 that follow."""

    width: int = Field(ge=4)
    stages: int = Field(ge=1, le=6)
    blocks: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """A 3x3 stem, `stages` of residual blocks, each but the first at half the resolution, then a mean.

    Pre-activation-free residual blocks as in He et al. 2015 (arXiv 1512.03385), on a stem without pooling
    as its CIFAR variants have.
    """
    from torch import nn

    from weathervane.layers import Residual, conv_norm

    layers: list[nn.Module] = [*conv_norm(3, network.width, stride=2 if size >= 48 else 1), nn.ReLU()]
    before = network.width
    for stage in range(network.stages):
        after = network.width * 2**stage
        for block in range(network.blocks):
            layers.append(Residual(before, after, stride=2 if stage and not block else 1))
            before = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(network.dropout), nn.Linear(before, classes)]
    return nn.Sequential(*layers)
