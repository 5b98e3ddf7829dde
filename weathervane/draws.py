"""What an epoch leaves to chance, drawn before it begins: a checkpoint in the middle of it holds all of it.

Legend: N = images, B = images of a batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from weathervane.changes import blends, chances
from weathervane.device import to_device
from weathervane.variant import Augment


@dataclass(frozen=True)
class Draws:
    """Of each step of an epoch: its images, what becomes of each, and how they are blended."""

    order: Tensor  # row numbers, int64 [steps, B], on the device
    chances: Tensor  # as `changes` takes them, float32 [steps, R, B] in 0-1, on the device
    blends: Tensor  # as `mix` takes them, float64 [steps, 3], on the host


def draw(n: int, batch: int, policy: Augment, rng: np.random.Generator, generator: Generator) -> Draws:
    """Those of one epoch of `n` images; what is for the device is drawn by `generator`, on its own."""
    order = shuffled(n, batch, rng)
    steps, batch = order.shape
    return Draws(
        order=to_device(order, generator.device),
        chances=chances(steps, batch, policy, generator),
        blends=torch.from_numpy(blends(steps, policy, rng)),
    )


def shuffled(n: int, size: int, rng: np.random.Generator) -> Tensor:
    """Row numbers, int64 [steps, size]; the rest that fills no batch waits for the next shuffle."""
    size = min(size, n)
    return torch.from_numpy(rng.permutation(n)[: n // size * size].reshape(-1, size))
