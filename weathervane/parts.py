"""What a fold trains on and what it validates on, ready on the device.

Legend: N = images, S = size, K = classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from weathervane.device import side_stream_waits
from weathervane.errors import InputError
from weathervane.pixels import Pixels, memory_for_pixels
from weathervane.store import Store
from weathervane.variant import Variant


@dataclass(frozen=True)
class Part:
    """A part of the dataset; labels and one_hot are on the device."""

    images: Pixels  # uint8 [N, 3, S, S]
    labels: Tensor  # int64 [N], 0..K-1
    one_hot: Tensor  # float32 [K, K], a class's target a row
    paths: np.ndarray  # str [N], as data/raw has them

    def targets(self, rows: Tensor) -> Tensor:
        """One-hot, float32 [..., K], of row numbers int64 [...]."""
        return self.one_hot[self.labels[rows]]


def load_fold(
    store: Store, variant: Variant, fold: int, device: torch.device, memory: float | None = None
) -> tuple[Part, Part]:
    """Train and validation parts on the device, but for pixels where there are more than `memory` bytes of them."""
    if variant.size > store.size:
        raise InputError(
            f"size: {variant.size} is larger than the prepared images: set image_size: {variant.size} in "
            "params/prepare.yaml"
        )
    both = {"train on": store.part("train", without_fold=fold), "validate on": store.part("train", fold=fold)}
    for purpose, rows in both.items():
        if len(rows) < 2:
            raise InputError(f"{store.folder}: fold {fold} leaves {len(rows)} images to {purpose}: add images")
    numbers = np.searchsorted(store.classes, store.manifest["label"])
    needed = 3 * variant.size**2 * sum(map(len, both.values()))
    on_device = needed <= (memory_for_pixels(device) if memory is None else memory)

    one_hot = torch.eye(len(store.classes), device=device)

    def part(rows: np.ndarray) -> Part:
        labels = torch.from_numpy(numbers[rows]).to(device)
        images = Pixels(store, rows, variant.size, device, on_device)
        return Part(images, labels, one_hot, store.manifest["path"][rows])

    train, val = map(part, both.values())
    side_stream_waits(device)
    return train, val
