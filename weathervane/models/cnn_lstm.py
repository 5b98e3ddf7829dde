"""Convolutions see what is where; a long short-term memory reads their map, place by place, forth and back."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`width`, `stages`, `blocks`: of the residual network, as in family cnn; `hidden`: of the LSTM, each way."""

    width: int = Field(ge=4)
    stages: int = Field(ge=1, le=6)
    blocks: int = Field(ge=1)
    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    bidirectional: bool
    dropout: float = Field(ge=0, lt=1)
    any_size: ClassVar[bool] = True


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """Residual blocks; the channels at each place of their map are a step, in reading order; the mean over steps."""
    from torch import nn

    from weathervane.layers import Bands, lstm, residual_stages

    features = network.width * 2 ** (network.stages - 1)
    reader = lstm(features, network.hidden, network.layers, network.bidirectional, network.dropout)
    return nn.Sequential(
        *residual_stages(network.width, network.stages, network.blocks, size),
        Bands(1, 1),
        nn.Dropout(network.dropout),
        reader,
        nn.Dropout(network.dropout),
        nn.Linear(reader.features, classes),
    )
