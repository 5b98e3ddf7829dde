"""What a network makes of images just before it decides: the input of its last linear layer.

Legend: N = images, S' = any size, D = features, K = classes.
"""

import numpy as np
import torch

from weathervane.backbone import last_linear
from weathervane.model import Model
from weathervane.store import Store, images_per_block

MOST = 256  # images in memory at a time, where a block has room for so many


def at_once(size: int) -> int:
    """Images of this size that are looked at together while others are being read."""
    return min(MOST, images_per_block(size))


def with_features(model: Model, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, S', S', 3] to probabilities, float32 [N, K], and features, float32 [N, D], in one pass.

    Features are averaged with the mirror image's where the logits are. One thread at a time for a model.
    """
    last = last_linear(model.net)
    given: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        probabilities = model.probabilities(pixels)
    finally:
        handle.remove()
    views = 2 if model.spec.flip_test else 1  # of each block that went through the network
    blocks = (given[first : first + views] for first in range(0, len(given), views))
    features = [torch.stack(block).float().mean(0) for block in blocks] or [torch.empty(0, last.in_features)]
    return probabilities, torch.cat(features).cpu().numpy()


def store_features(model: Model, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """As `with_features`, of all images of a store."""
    parts = [with_features(model, pixels) for pixels in store.blocks(np.arange(len(store.manifest["label"])))]
    probabilities, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    return probabilities, features
