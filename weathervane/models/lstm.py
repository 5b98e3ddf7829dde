"""A long short-term memory that reads an image as a sequence of bands of rows, top to bottom and back."""

from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """`rows`: rows of pixels that make one step; it must divide the variant's size."""

    rows: int = Field(ge=1)
    embed: int = Field(ge=1)
    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    bidirectional: bool
    dropout: float = Field(ge=0, lt=1)

    def check_size(self, size: int) -> None:
        """Refuse a size that does not fall into whole bands."""
        if size % self.rows:
            raise ValueError(f"network.rows: {self.rows} does not divide size: {size}")


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """Bands of rows, embedded, through LSTM cells (Hochreiter & Schmidhuber 1997); the mean over steps."""
    from torch import nn

    from weathervane.layers import Bands, Recurrent

    features = 3 * size * network.rows
    reader = nn.LSTM(
        network.embed,
        network.hidden,
        network.layers,
        batch_first=True,
        bidirectional=network.bidirectional,
        dropout=network.dropout if network.layers > 1 else 0.0,
    )
    return nn.Sequential(
        Bands(network.rows),
        nn.Linear(features, network.embed),
        nn.LayerNorm(network.embed),
        nn.ReLU(),
        nn.Dropout(network.dropout),
        Recurrent(reader),
        nn.Dropout(network.dropout),
        nn.Linear(network.hidden * (2 if network.bidirectional else 1), classes),
    )
