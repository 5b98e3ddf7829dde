"""What params/models/<variant>.yaml may say. Reading it needs neither torch nor any of the three engines."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from weathervane import params
from weathervane.errors import InputError
from weathervane.models import FAMILIES, family
from weathervane.params import Strict

FOLDER = Path("params/models")


class Augment(Strict):
    """The random changes of each training image; `weathervane.augment` says what each does."""

    crop: tuple[float, float]  # share of the area, smallest and largest
    scale: float = Field(1.0, ge=0.25, le=1)  # side of the crop as the network trains on it, a share of `size`
    ratio: float = Field(ge=1, le=3)  # aspect ratio of the crop, from 1/ratio to ratio
    rotate: float = Field(ge=0, le=180)  # degrees either way
    flip: bool  # left to right, half of the images
    brightness: float = Field(ge=0, lt=1)  # factor from 1 - b to 1 + b; the next two likewise
    contrast: float = Field(ge=0, lt=1)
    saturation: float = Field(ge=0, lt=1)
    erase: float = Field(ge=0, le=1)  # share of images that lose a rectangle
    mixup: float = Field(ge=0)  # alpha of Beta(alpha, alpha); 0 is off
    cutmix: float = Field(ge=0)  # likewise; with both on, a batch takes one of them by a fair coin

    @field_validator("crop")
    @classmethod
    def _ordered(cls, crop: tuple[float, float]) -> tuple[float, float]:
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError("two shares of the area are expected, 0 < smallest <= largest <= 1")
        return crop


class Train(Strict):
    """How the network is fitted; `weathervane.fit` is the loop."""

    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    optimizer: Literal["adamw", "sgd"]
    lr: float = Field(gt=0)  # the peak of the one-cycle schedule
    warmup: float = Field(gt=0, lt=1)  # share of all steps that climb to the peak
    weight_decay: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    ema: float = Field(ge=0, lt=1)  # decay a step of the averaged weights; 0 is off
    accumulate: int = Field(1, ge=1)  # parts of a batch that go through the network one after another; for less memory
    bfloat16: bool = True  # learn in it on GPUs and CPUs that have it (device.has_bfloat16); what is kept is float32
    compile: bool = False  # torch.compile; docs/speed.md: when it pays
    record: bool = True  # on a GPU: record a step once and replay it, see weathervane/cuda_graph.py


class Variant(Strict):
    """A whole variant: network, augmentation, training."""

    by_default: bool = Field(True, exclude=True)  # whether a retraining that names no variants trains it
    family: str
    size: int = Field(ge=8)
    flip_test: bool  # average the logits of an image and its mirror image
    network: dict[str, Any]
    augment: Augment
    train: Train

    @field_validator("family")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FAMILIES:
            raise ValueError(f"no such family; there are {', '.join(FAMILIES)}")
        return name

    @model_validator(mode="after")
    def _network_fits(self) -> "Variant":
        network = params.check(family(self.family).Network, self.network, f"network of family {self.family}")
        if hasattr(network, "check_size"):
            network.check_size(self.size)
        if self.augment.scale < 1 and not getattr(network, "any_size", False):
            raise ValueError(
                f"augment.scale: {self.augment.scale}: networks of family {self.family} train on the size that they "
                "test on: leave scale out"
            )
        return self


def names(root: Path) -> list[str]:
    """Every variant that has a file."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml"))


def defaults(root: Path) -> list[str]:
    """The variants that are trained where none is named: all but those whose file says `by_default: false`."""
    return [name for name in names(root) if load(root, name).by_default]


def check_name(root: Path, name: str) -> None:
    """Refuse a name that no file has."""
    if name not in names(root):
        raise InputError(f"no variant '{name}'; params/models/ has {', '.join(names(root)) or 'none'}")


def load(root: Path, name: str, changes: dict[str, Any] | None = None) -> Variant:
    """A variant from its file, with dotted keys of `changes` replaced.

    Raises:
        InputError: no such variant, an unknown or misspelt key, a value out of range.
    """
    check_name(root, name)
    path = root / FOLDER / f"{name}.yaml"
    origin = path.relative_to(root)
    content = params.read(path)
    for key, value in (changes or {}).items():
        content = params.override(content, key, value, f"--set {name}.{key}: {origin}")
    return params.check(Variant, content, f"{origin} with --set {' '.join(changes)}" if changes else origin)


def header(root: Path, name: str) -> str:
    """The comment that heads a variant's file: how to run it, how long it takes, what it reaches."""
    lines = []
    for line in (root / FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return "\n".join(lines)
