"""A deep network of fully connected layers: ReLU, normalisation and dropout, or sigmoids with none of it."""

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`hidden`: units of each hidden layer, two or more of them; `input_size`: the image is averaged down to it."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field(min_length=2)
    activation: Literal["relu", "sigmoid"]
    norm: bool
    dropout: float = Field(ge=0, lt=1)
    input_size: int = Field(ge=4)


LEGACY_DEFAULTS = {"activation": "relu", "norm": True}


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """Average to input_size², flatten, then Linear → BatchNorm (if `norm`) → activation → Dropout a hidden layer."""
    from torch import nn

    from weathervane.layers import Shrunk

    units = [3 * network.input_size**2, *network.hidden]
    layers: list[nn.Module] = [Shrunk(network.input_size), nn.Flatten()]
    for before, after in pairwise(units):
        layers.append(nn.Linear(before, after, bias=not network.norm))
        if network.norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(nn.ReLU() if network.activation == "relu" else nn.Sigmoid())
        layers.append(nn.Dropout(network.dropout))
    return nn.Sequential(*layers, nn.Linear(units[-1], classes))
