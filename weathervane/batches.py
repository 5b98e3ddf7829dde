"""The augmented batches of an epoch; a GPU makes the first ones of the next epoch while it works at this one's steps.

Legend: N = images, S = size, K = classes, B = images of a batch.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

from torch import Tensor

from weathervane.augment import augment, mix
from weathervane.changes import changes
from weathervane.device import from_side_stream, on_side_stream, side_stream_waits, to_float
from weathervane.draws import Draws, draw
from weathervane.parts import Part
from weathervane.state import Coming, State
from weathervane.variant import Variant

# Bytes of float32 images that are augmented at once. On small images it is the number of operations that costs, on a
# GPU far more than on a CPU.
TOGETHER = {"cuda": 1 << 26, "cpu": 1 << 22}


def batches(state: State, train: Part, variant: Variant) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented images, float32 [B, 3, S', S'], and targets, float32 [B, K], of each step that the epoch still has.

    The epoch is the next one where none is under way.
    """
    if state.draws is None:
        state.draws, made = state.coming or begun(state, train, variant)
        state.coming = None
    else:
        side_stream_waits(train.labels.device)
        made = blocks(state, train, variant, state.draws, len(state.losses))
    for images, targets in made:
        yield from zip(from_side_stream(images), from_side_stream(targets), strict=True)


def draw_ahead(state: State, train: Part, variant: Variant) -> None:
    """Begin with the next epoch on a GPU, which has steps to do still, and would wait for the host after them."""
    if train.labels.device.type == "cuda" and state.epoch + 1 < variant.train.epochs:
        state.coming = begun(state, train, variant)


def begun(state: State, train: Part, variant: Variant) -> Coming:
    """The draws of an epoch, and its blocks, of which the first is made now."""
    with on_side_stream(train.labels.device):
        draws = draw(len(train.labels), variant.train.batch, variant.augment, state.rng, state.generator)
    made = blocks(state, train, variant, draws)
    return draws, chain([*islice(made, 1)], made)


def blocks(state: State, train: Part, variant: Variant, draws: Draws, done: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and targets of some steps at a time, made `on_side_stream`; as `batches`, but for a first axis, the steps.

    The first `done` steps are left out, of blocks that are those of the whole epoch: beside others an image might come
    out otherwise in its last bit.
    """
    device = train.labels.device
    count = together(variant, train, draws.order.shape[1])
    first = done // count * count

    def augmented(pixels: Tensor, changes: Tensor) -> Tensor:
        return augment(to_float(pixels), variant.augment, changes)

    orders = draws.order[first:].split(count) if done < len(draws.order) else ()
    with on_side_stream(device):
        coming = train.images.batches(order.flatten() for order in orders)
        every = state.recorder.run("changes", partial(changes, policy=variant.augment), draws.chances)
    for number, (order, pixels) in enumerate(zip(orders, coming, strict=True)):
        steps = slice(first + number * count, first + (number + 1) * count)
        with on_side_stream(device):
            some = every[steps].flatten(0, 1)
            images = state.recorder.run(f"{len(pixels)} images", augmented, pixels, some).unflatten(0, order.shape)
            made = mix(images, train.targets(order), variant.augment, draws.blends[steps].numpy())
        skipped = max(0, done - steps.start)
        yield made[0][skipped:], made[1][skipped:]


def together(variant: Variant, train: Part, batch: int) -> int:
    """How many steps' images are augmented at once, in batches of so many."""
    each = batch * max(12 * variant.size**2, train.images.on_its_way)
    return max(1, TOGETHER.get(train.labels.device.type, 0) // each)
