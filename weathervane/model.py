"""A trained model on disk and in use: safetensors + JSON, nothing pickled, no code in it.

A model folder holds `model.safetensors` (weights), `model.json` (all that is needed to build and feed the
network) and `probe.safetensors` (8 images and their logits: whoever loads it can see that it still computes
the same). Legend: N = images, S = size, K = classes.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor, nn

from weathervane import images
from weathervane.device import normalise, resident, to_float
from weathervane.errors import InputError, in_brief
from weathervane.files import replacing
from weathervane.models import FAMILIES, family
from weathervane.params import check

FORMAT = 1
PROBE = 8


@dataclass(frozen=True)
class Spec:
    """model.json. Photographs are decoded at `decode_size` and shrunk to `size`, as they were for training;
    `classes` in the order of the logits; `about` says where the model comes from; logits are divided by
    `temperature` (1 in models that were saved before there was one) to become probabilities; `weights` is the sha256 of
    model.safetensors (empty in models that were saved before it was kept)."""

    variant: str
    family: str
    network: dict[str, Any]
    size: int
    decode_size: int
    classes: list[str]
    flip_test: bool
    about: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    temperature: float = 1.0
    weights: str = ""


class Model:
    """A network with all that it takes to go from photographs to class probabilities."""

    def __init__(self, net: nn.Module, spec: Spec, device: torch.device) -> None:
        self.net = net.to(device).eval()
        self.spec, self.device = spec, device

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> "Model":
        """Build the network named in model.json and fill in its weights.

        Raises:
            InputError: a file is missing or damaged, or needs a family that the installed code lacks.
        """
        try:
            spec = Spec(**json.loads((folder / "model.json").read_text(encoding="utf-8")))
            if spec.format != FORMAT or spec.family not in FAMILIES:
                known = f"format {FORMAT}, families {', '.join(FAMILIES)}"
                raise InputError(f"made by other code (format {spec.format}, family {spec.family}; here: {known})")
            if not 0 < spec.temperature < math.inf:
                raise ValueError(f"temperature is {spec.temperature}")
            with torch.random.fork_rng([]):  # the weights that are about to be replaced are drawn globally
                net = build(spec)
            data = (folder / "model.safetensors").read_bytes()
            # safetensors notices a broken header, and no flipped bit in a weight.
            if spec.weights not in ("", hashlib.sha256(data).hexdigest()):
                raise ValueError(f"the bytes of model.safetensors are not those of its sha256 {spec.weights}")
            net.load_state_dict(load(data))
        except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise _unusable(folder, error) from None
        return cls(net, spec, device or torch.device("cpu"))

    def save(self, folder: Path, probe: np.ndarray) -> None:
        """Write the folder; `probe`: uint8 [<= 8, S, S, 3] of images to remember the logits of.

        A folder that is only half written does not load.
        """
        (folder / "model.json").unlink(missing_ok=True)
        pixels = np.ascontiguousarray(probe[:PROBE])
        remembered = {"pixels": torch.from_numpy(pixels), "logits": self.logits(pixels)}
        data = {}
        for name, tensors in (("model", self.net.state_dict()), ("probe", remembered)):
            data[name] = save({key: value.cpu().contiguous() for key, value in tensors.items()})
            with replacing(folder / f"{name}.safetensors", "wb") as file:
                file.write(data[name])
        self.spec = replace(self.spec, weights=hashlib.sha256(data["model"]).hexdigest())
        with replacing(folder / "model.json") as file:
            json.dump(asdict(self.spec), file, indent=1)

    def probe_error(self, folder: Path) -> float:
        """Largest absolute difference between the logits remembered in `folder` and those computed now.

        Infinite where either is not a number.

        Raises:
            InputError: the probe is missing or damaged.
        """
        try:
            probe = load_file(folder / "probe.safetensors")
            difference = self.logits(probe["pixels"].numpy()).cpu() - probe["logits"]
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise _unusable(folder, error) from None
        return float(difference.abs().nan_to_num(math.inf).max())

    def logits(self, pixels: np.ndarray) -> Tensor:
        """uint8 [N, S', S', 3] of any size S' to float32 logits [N, K] on the model's device."""
        batch = eval_batch_size(self.net, self.spec.size)
        blocks = (pixels[first : first + batch] for first in range(0, len(pixels), batch))
        parts = [self.forward(resident(np.ascontiguousarray(p), self.spec.size, self.device)) for p in blocks]
        return torch.cat(parts) if parts else torch.empty(0, len(self.spec.classes))

    @torch.inference_mode()
    def forward(self, batch: Tensor) -> Tensor:
        """uint8 [N, 3, S, S] on the device to float32 logits [N, K]; mirrored and averaged if so trained."""
        return logits(self.net, batch, self.spec.flip_test)

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, S', S', 3] to float32 [N, K], rows that sum to 1; tempered.

        Raises:
            InputError: the network computes something that is no number.
        """
        found: np.ndarray = (self.logits(pixels) / self.spec.temperature).softmax(1).cpu().numpy()
        if not np.isfinite(found).all():
            raise InputError("the model's probabilities are no numbers: its weights are damaged, or it has diverged")
        return found

    def classify(self, photographs: list[bytes]) -> np.ndarray:
        """Photograph bytes to float32 [N, K].

        Raises:
            BadImage: one of them cannot be decoded.
        """
        side = self.spec.decode_size
        pixels = [images.decode(data, side) for data in photographs]
        return self.probabilities(np.array(pixels, np.uint8).reshape(-1, side, side, 3))


def eval_batch_size(net: nn.Module, size: int) -> int:
    """Images of this size that go through the network together when it judges: what it makes of one takes room by the
    pixel, and above 128 x 128 fewer than 256 are given to it. Some enlarge them first, to their `input_size`."""
    return max(1, min(256, 256 * 128**2 // max(size, getattr(net, "input_size", 0)) ** 2))


def build(spec: Spec) -> nn.Module:
    """A network with fresh weights, channels last."""
    module = family(spec.family)
    known = getattr(module, "LEGACY_DEFAULTS", {}) | spec.network
    network = check(module.Network, known, f"variant {spec.variant}: network")
    net: nn.Module = module.build(network, spec.size, len(spec.classes))
    return net.to(memory_format=torch.channels_last)


def logits(net: nn.Module, batch: Tensor, flip: bool) -> Tensor:
    """uint8 [N, 3, S, S] to float32 [N, K], averaged with the mirror image's if `flip`; without TF32."""
    images = normalise(to_float(batch))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        out = net(images).float()
        return (out + net(images.flip(-1)).float()) / 2 if flip else out


def _unusable(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder}: not a usable model: {in_brief(error)}")
