"""A long short-term memory that reads an image as a sequence of bands of rows or of patches, forth and back."""

from typing import TYPE_CHECKING

from pydantic import Field

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn


class Network(Strict):
    """A step is a patch of `rows` x `columns` pixels, in reading order; both must divide the variant's size.

    With `columns: 0` it is a band as wide as the image.
    """

    rows: int = Field(ge=1)
    columns: int = Field(ge=0)
    embed: int = Field(ge=1)
    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    bidirectional: bool
    dropout: float = Field(ge=0, lt=1)

    def check_size(self, size: int) -> None:
        """Refuse a size that does not fall into whole steps."""
        for name, pixels in (("rows", self.rows), ("columns", self.columns or size)):
            if size % pixels:
                raise ValueError(f"network.{name}: {pixels} does not divide size: {size}")


LEGACY_DEFAULTS = {"columns": 0}


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """Bands or patches, embedded, through LSTM cells; the mean over steps."""
    from torch import nn

    from weathervane.layers import Bands, lstm

    reader = lstm(network.embed, network.hidden, network.layers, network.bidirectional, network.dropout)
    return nn.Sequential(
        Bands(network.rows, network.columns),
        nn.Linear(3 * network.rows * (network.columns or size), network.embed),
        nn.LayerNorm(network.embed),
        nn.ReLU(),
        nn.Dropout(network.dropout),
        reader,
        nn.Dropout(network.dropout),
        nn.Linear(reader.features, classes),
    )
