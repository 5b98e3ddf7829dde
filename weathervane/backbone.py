"""Backbones of torchvision: a fresh head on any of them, and pretrained weights from its loader or from a file.

torchvision takes seconds to import, so that happens inside. Legend: N = images, S = size, K = classes.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.device import MEAN, STD
from weathervane.errors import InputError, in_brief
from weathervane.files import sha256

PATIENCE = 30.0  # seconds without a byte
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads in the middle of GoogLeNet and Inception, which we leave out


class Transfer(nn.Module):
    """A backbone and its head; what a training does with them is in `pretrain`, `parts` and `start_epoch`.

    Raises:
        InputError: torchvision has no such backbone, or it takes no images of `input_size`.
    """

    def __init__(
        self, name: str, classes: int, input_size: int, *, weights: str, sha256: str | None, freeze: int, rate: float
    ) -> None:
        super().__init__()
        self.name, self.input_size, self.freeze, self.rate = name, input_size, freeze, rate
        self.weights, self.sha256 = weights, sha256
        self.backbone = bare(name)
        self.place = replace_head(self.backbone, classes)
        for key, value in zip(("scale", "shift"), renormalisation(name, weights), strict=True):
            self.register_buffer(key, value, persistent=False)
        try:
            with torch.inference_mode():
                self.eval()(torch.zeros(2, 3, input_size, input_size))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"network.input_size: {name} takes no images of {input_size} pixels: {in_brief(error)}"
            ) from None

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, 3, S, S] of any size S, normalised, to logits [N, K]."""
        x = F.interpolate(x, (self.input_size, self.input_size), mode="bilinear", antialias=True)
        return self.backbone(x * self.scale + self.shift)

    def pretrain(self) -> None:
        """Fill the backbone with its pretrained weights; the head stays as it is.

        Raises:
            InputError: they cannot be had, are damaged, or are another network's.
        """
        if self.weights == "none":
            return
        if self.sha256:
            held, origin = read(Path(self.weights), self.sha256), self.weights
        else:
            held, origin = fetch(self.name, self.weights), f"torchvision's {self.weights}"
        for key in list(held):
            if key.startswith((f"{self.place}.", *AUXILIARY)):
                del held[key]
        try:
            lacking, unknown = self.backbone.load_state_dict(held, strict=False)
            wrong = [*unknown, *(key for key in lacking if not key.startswith(f"{self.place}."))]
            if wrong:
                raise ValueError(f"{len(wrong)} tensors too many or too few, such as {wrong[0]}")
        except (RuntimeError, ValueError) as error:
            raise InputError(f"network.weights: {origin} is not of {self.name}: {in_brief(error)}") from None

    def param_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The head's parameters, and the backbone's at their share of the learning rate."""
        head = list(last_linear(self.backbone).parameters())
        known = set(head)
        return [(head, 1.0), ([p for p in self.parameters() if p not in known], self.rate)]

    def start_epoch(self, epoch: int) -> None:
        """Hold the backbone still, statistics of its normalisation and all, while fewer than `freeze` are finished."""
        frozen = epoch < self.freeze
        self.backbone.train(not frozen)
        self.requires_grad_(not frozen)
        last_linear(self.backbone).requires_grad_(True)


def bare(name: str) -> nn.Module:
    """A backbone of torchvision's with fresh weights and without heads in its middle.

    Raises:
        InputError: there is none of that name.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else f"; it has {', '.join(known)}"
        raise InputError(f"network.backbone: torchvision has no classification network '{name}'{hint}")
    if name not in ("googlenet", "inception_v3"):
        return models.get_model(name, weights=None)
    return models.get_model(name, weights=None, aux_logits=False, init_weights=False, transform_input=True)


def last_linear(net: nn.Module) -> nn.Linear:
    """The layer that gives the logits."""
    return [module for module in net.modules() if isinstance(module, nn.Linear)][-1]


def replace_head(backbone: nn.Module, classes: int) -> str:
    """Put a fresh linear layer where a backbone has its last one; the name of what it replaced.

    Where the last one is a convolution (SqueezeNet), the classifier that it is in becomes a mean and a linear layer.
    """
    place, last = [(n, m) for n, m in backbone.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    if isinstance(last, nn.Linear):
        backbone.set_submodule(place, nn.Linear(last.in_features, classes))
        return place
    place = place.split(".")[0]
    head = nn.Linear(last.in_channels, classes)
    backbone.set_submodule(place, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head))
    return place


def renormalisation(name: str, weights: str) -> tuple[Tensor, Tensor]:
    """Scale and shift, float32 [3, 1, 1], from ImageNet's mean and deviation to those that the weights were made with.

    Of a file nobody knows; it is taken to be as the default weights are.
    """
    from torchvision.models import get_model_weights

    known = get_model_weights(name).__members__
    preset = known.get(weights, known["DEFAULT"]).transforms()
    here, there = torch.tensor([MEAN, STD]), torch.tensor([preset.mean, preset.std])
    return (here[1] / there[1])[:, None, None], ((here[0] - there[0]) / there[1])[:, None, None]


def read(path: Path, digest: str) -> dict[str, Tensor]:
    """Weights from a file: safetensors, or a state_dict as torch saves it, of which nothing is executed.

    Raises:
        InputError: it is not there, has another sha256, or holds anything else.
    """
    try:
        found = sha256(path)
        if found != digest:
            raise ValueError(f"its sha256 is {found}, not network.sha256 {digest}")
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
            raise ValueError("a state_dict is expected: tensors by name")
        if not all(value.layout is torch.strided for value in held.values()):  # torch does not look at their indices
            raise ValueError("a state_dict of dense tensors is expected, some are sparse")
        return held
    except Exception as error:  # of a damaged pickle torch raises whatever it stumbles over, an IndexError among them
        raise InputError(f"network.weights: {path}: {in_brief(error)}") from None


def fetch(name: str, weights: str) -> dict[str, Tensor]:
    """Weights by torchvision's own loader: downloaded once to torch's cache, and checked against their published hash.

    Raises:
        InputError: torchvision has none of that name, or they cannot be had; says how else to get them.
    """
    from torchvision.models import get_model, get_model_weights

    known = get_model_weights(name).__members__
    entry = known.get("DEFAULT" if weights == "default" else weights)
    if entry is None:
        names = [other for other in known if other != "DEFAULT"]
        raise InputError(
            f"network.weights: {name} has no '{weights}'; there are default, {', '.join(names)}, none, and files"
        )
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(entry.url).path).name)
    try:
        with patience():  # read here first, where nothing is executed: torchvision's loader would unpickle
            entry.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        if not sha256(cached).startswith(cached.stem.rsplit("-", 1)[1]):
            raise ValueError("it is damaged; remove it")
        return get_model(name, weights=entry, progress=False).state_dict()
    except Exception as error:  # likewise
        raise InputError(
            f"network.weights: {entry.url}: {in_brief(error)}: fetch it by other means and put it at {cached}, name "
            "another file (network.weights: FILE, network.sha256: its sha256), or start fresh (network.weights: none)"
        ) from None


@contextmanager
def patience() -> Iterator[None]:
    """Give up on servers that say nothing: torch's loader would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
