"""What a fold trains on and what it validates on, ready on the device.

Legend: N = images, S = size, K = classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weathervane.device import catch_up
from weathervane.errors import InputError
from weathervane.pixels import Pixels, room
from weathervane.store import Store
from weathervane.variant import Variant


@dataclass(frozen=True)
class Part:
    """A part of the dataset; labels and targets are on the device."""

    images: Pixels  # uint8 [N, 3, S, S]
    labels: Tensor  # int64 [N], 0..K-1
    targets: Tensor  # float32 [N, K], one-hot
    paths: np.ndarray  # str [N], as data/raw has them


def load(
    store: Store, variant: Variant, fold: int, device: torch.device, memory: float | None = None
) -> tuple[Part, Part]:
    """Train and validation parts on the device, but for pixels where there are more than `memory` bytes of them."""
    if variant.size > store.size:
        raise InputError(
            f"size: {variant.size} is larger than the prepared images: set image_size: {variant.size} in "
            "params/prepare.yaml"
        )
    numbers = np.searchsorted(store.classes, store.manifest["label"])
    both, parts = (store.part("train", without_fold=fold), store.part("train", fold=fold)), []
    held = 3 * variant.size**2 * sum(map(len, both)) <= (room(device) if memory is None else memory)
    for rows in both:
        if len(rows) < 2:
            raise InputError(f"{store.folder}: fold {fold} leaves {len(rows)} images in a part: add images")
        labels = torch.from_numpy(numbers[rows]).to(device)
        targets = F.one_hot(labels, len(store.classes)).float()
        images = Pixels(store, rows, variant.size, device, held)
        parts.append(Part(images, labels, targets, store.manifest["path"][rows]))
    catch_up(device)
    return parts[0], parts[1]
