"""The augmented batches of an epoch; a GPU makes the first ones of the next epoch while it works at this one's steps.

Legend: N = images, S = size, K = classes, B = images of a batch.
"""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor

from weathervane.augment import augment, mix
from weathervane.device import from_side_stream, on_side_stream, side_stream_waits, to_device, to_float
from weathervane.parts import Part
from weathervane.state import Coming, State
from weathervane.variant import Variant

TOGETHER = 1 << 26  # bytes of images that a GPU augments at once


def batches(state: State, train: Part, variant: Variant) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented images, float32 [B, 3, S', S'], and targets, float32 [B, K], of each step that the epoch still has.

    The epoch is the next one where none is under way.
    """
    if state.order is None:
        state.order, made = state.coming or drawn(state, train, variant)
        state.coming = None
    else:
        side_stream_waits(state.order.device)
        made = blocks(state, state.order[len(state.losses) :], train, variant)
    for block in made:
        yield from zip(*map(from_side_stream, block), strict=True)


def draw_ahead(state: State, train: Part, variant: Variant) -> None:
    """Begin with the next epoch on a GPU, which has steps to do still, and would wait for the host after them."""
    if train.labels.device.type == "cuda" and state.epoch + 1 < variant.train.epochs:
        state.coming = drawn(state, train, variant)


def drawn(state: State, train: Part, variant: Variant) -> Coming:
    """The order of an epoch, and its blocks, of which the first is made now."""
    device = train.labels.device
    with on_side_stream(device):
        order = to_device(shuffled(len(train.labels), variant.train.batch, state.rng), device)
    made = blocks(state, order, train, variant)
    return order, chain([*islice(made, 1)], made)


def blocks(state: State, left: Tensor, train: Part, variant: Variant) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and targets of some steps at a time, made `on_side_stream`; as `batches`, but for a first axis, the steps.

    A GPU makes those of many steps at once: its kernels are so short there that their number is what counts.
    """
    device = left.device
    each = left.shape[1] * max(12 * variant.size**2, train.images.on_its_way)
    orders = left.split(together(device, each)) if len(left) else ()

    def augmented(pixels: Tensor) -> Tensor:
        return augment(to_float(pixels), variant.augment, state.generator)

    with on_side_stream(device):
        coming = train.images.batches(order.flatten() for order in orders)
    for order, pixels in zip(orders, coming, strict=True):
        with on_side_stream(device):
            images = state.recorder.run(f"{len(pixels)} images", augmented, pixels).unflatten(0, order.shape)
            made = mix(images, train.targets[order], variant.augment, state.rng)
        yield made


def together(device: torch.device, each: int) -> int:
    """How many steps' images, of so many bytes each, are augmented at once."""
    return max(1, TOGETHER // each) if device.type == "cuda" else 1


def shuffled(n: int, size: int, rng: np.random.Generator) -> Tensor:
    """Row numbers, int64 [steps, size]; the rest that fills no batch waits for the next shuffle."""
    size = min(size, n)
    return torch.from_numpy(rng.permutation(n)[: n // size * size].reshape(-1, size))
