"""An Elman network that reads the rows of an image from top to bottom: what it answers is in its last state."""

from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`rows`: rows of pixels that make one step; it must divide the variant's size."""

    rows: int = Field(ge=1)
    hidden: int = Field(ge=1)

    def check_size(self, size: int) -> None:
        """Refuse a size that does not fall into whole bands."""
        if size % self.rows:
            raise ValueError(f"network.rows: {self.rows} does not divide size: {size}")


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """Bands of rows into a simple recurrent layer of tanh units (Elman 1990); its last output into a linear one."""
    from torch import nn

    from weathervane.layers import Bands, Recurrent

    reader = nn.RNN(3 * size * network.rows, network.hidden, batch_first=True)
    return nn.Sequential(
        Bands(network.rows),
        Recurrent(reader, last=True),
        nn.Linear(network.hidden, classes),
    )
