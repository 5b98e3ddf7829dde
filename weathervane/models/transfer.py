"""A torchvision network that has learnt from millions of other pictures: first a new head alone, then all of it."""

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from weathervane.params import Strict

if TYPE_CHECKING:
    from torch import nn

REQUIRES = ("torchvision",)


class Network(Strict):
    """`backbone`: a name of `torchvision.models.list_models`; `input_size`: pixels that the image is resized to for it.

    `weights`: `default` or another of torchvision's names for them, a file with its `sha256`, or `none`. The first
    `freeze` epochs train the head alone; then the backbone follows at `backbone_lr` times the head's learning rate.
    Without weights to keep, neither applies.
    """

    backbone: str
    weights: str = Field(pattern=r"^[^\x00]+$")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    input_size: int = Field(ge=8)
    freeze: int = Field(ge=0)
    backbone_lr: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _a_file_has_its_sha256(self) -> "Network":
        if bool(PurePath(self.weights).suffix) != bool(self.sha256):
            raise ValueError(f"network.weights: {self.weights}: a file (.safetensors, .pth) has a sha256, a name none")
        return self


def build(network: Network, size: int, classes: int) -> "nn.Module":
    """The backbone with a fresh linear head; weights are fetched by `pretrain`, before a training's first step."""
    from weathervane.backbone import Transfer

    fresh = network.weights == "none"
    return Transfer(
        network.backbone,
        classes,
        network.input_size,
        weights=network.weights,
        sha256=network.sha256,
        freeze=0 if fresh else network.freeze,
        rate=1.0 if fresh else network.backbone_lr,
    )
