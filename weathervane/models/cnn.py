"""Convolution and pooling: a small residual network, with a shortcut around every pair of layers, or a plain one."""

from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`width`: channels of the first stage, doubled at each of the `stages` - 1 that follow; `blocks`: of each.

    Without `residual`, a block is a convolution and a ReLU, and a stage ends with max-pooling.
    """

    residual: bool
    width: int = Field(ge=4)
    stages: int = Field(ge=1, le=6)
    blocks: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    @property
    def any_size(self) -> bool:
        """The residual network ends in a mean over all places; the plain one counts them."""
        return self.residual

    def check_size(self, size: int) -> None:
        """Refuse a size of which pooling leaves nothing."""
        if not self.residual and not size >> self.stages:
            raise ValueError(f"network.stages: {self.stages} halvings leave nothing of size: {size}")


LEGACY_DEFAULTS = {"residual": True}


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """A 3x3 stem, `stages` of residual blocks, each but the first at half the resolution, then a mean; or the plain
    network.

    The blocks are those of He et al. 2015 (arXiv 1512.03385), on a stem without pooling, as in its section 4.2.
    """
    from torch import nn

    from weathervane.layers import residual_stages

    if not network.residual:
        return _plain(network, size, classes)
    layers = residual_stages(network.width, network.stages, network.blocks, size)
    features = network.width * 2 ** (network.stages - 1)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(network.dropout), nn.Linear(features, classes)]
    return nn.Sequential(*layers)


def _plain(network: Network, size: int, classes: int) -> "nn.Module":
    """Convolution → ReLU → max-pooling, stacked (LeCun et al. 1998), then a hidden layer of the last stage's width."""
    from torch import nn

    layers: list[nn.Module] = []
    before = 3
    for stage in range(network.stages):
        for _ in range(network.blocks):
            after = network.width * 2**stage
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(True)]
            before = after
        layers.append(nn.MaxPool2d(2))
    flat = before * (size >> network.stages) ** 2
    layers += [nn.Flatten(), nn.Linear(flat, before), nn.ReLU(), nn.Dropout(network.dropout)]
    return nn.Sequential(*layers, nn.Linear(before, classes))
