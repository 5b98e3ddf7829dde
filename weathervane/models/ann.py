"""The classic network: one hidden layer of sigmoids, and nothing that has been found to help since."""

from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`hidden`: units of the hidden layer; `input_size`: the image is averaged down to it."""

    hidden: int = Field(ge=1)
    input_size: int = Field(ge=4)


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """Average to input_size², flatten, then Linear → sigmoid → Linear (Rumelhart, Hinton & Williams 1986)."""
    from torch import nn

    from weathervane.layers import Shrunk

    return nn.Sequential(
        Shrunk(network.input_size),
        nn.Flatten(),
        nn.Linear(3 * network.input_size**2, network.hidden),
        nn.Sigmoid(),
        nn.Linear(network.hidden, classes),
    )
