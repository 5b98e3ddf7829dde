"""The training loop: one variant, one device, one page. Killed at any moment, it goes on where it was.

Legend: N = images, S = size, K = classes.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.batches import batches, draw_ahead
from weathervane.calibration import temperature
from weathervane.cuda_graph import GraphRecorder
from weathervane.device import active, from_side_stream, normalise, out_of_memory, side_stream_waits
from weathervane.errors import Interrupted, TrainingError
from weathervane.files import append
from weathervane.gradients import GRADIENTS, WATCHED, gradient_stats
from weathervane.model import PROBE, Model, Spec, eval_batch_size, logits
from weathervane.parts import Part, load_fold
from weathervane.ranks import Ranks
from weathervane.resume import Checkpoints
from weathervane.state import Best, State, begin
from weathervane.store import Store
from weathervane.variant import Variant

METRICS = "metrics.jsonl"
EXPLODED = 1000.0  # times the loss of guessing: no training comes back from there
UNRECORDED = GraphRecorder(False)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a fit came to; seconds are of the loop alone, all tries together."""

    best_epoch: int
    val_accuracy: float
    parameters: int
    seconds: float
    images_per_second: float
    overfitting_gap: float  # the kept weights' accuracy on the training images, not augmented, less val_accuracy
    micro_batch: int  # images that went through the network at once
    precision: str  # in which it learnt: bfloat16 or float32
    notes: list[str] = field(default_factory=list)  # interruptions and what came of them


def fit(
    name: str,
    variant: Variant,
    store: Store,
    folder: Path,
    *,
    device: torch.device,
    seed: int = 0,
    fold: int = 0,
    about: dict[str, str] | None = None,
    stop: Callable[[], bool] = lambda: False,
    limit: float = math.inf,
    ranks: Ranks = Ranks(),  # noqa: B008, frozen
    memory: float | None = None,
) -> Outcome:
    """Train on all folds but one, validate on that one, and leave the best epoch's model in `folder`/model.

    Best is the highest validation accuracy, then the lowest validation loss, as the precision that it learns in has
    them; what is kept, and the outcome, are float32. Each epoch adds a line to
    `folder`/metrics.jsonl and one to gradients.jsonl. Equal seeds give equal weights on a CPU with equal threads, also
    if the training was interrupted and called again with the same folder. `stop` is asked after each step, and the
    clock: the loop may take `limit` seconds, all tries together. Of several processes only the first writes. Pixels of
    at most `memory` bytes stay on the device (None: half of it); more are read batch by batch.

    Raises:
        InputError: the store is smaller than the variant's size, a part is empty, the disk is full, the batch cannot
            be shared as `train.accumulate` or the processes want it, pretrained weights cannot be had, or torch.compile
            lacks a compiler.
        TrainingError: a loss that is not finite or has exploded, with its epoch, step and batch; a step
            that a GPU cannot record; or the limit is reached, and a checkpoint is written.
        Interrupted: `stop` said so; a checkpoint is written.
    """
    train, val = load_fold(store, variant, fold, device, memory)
    some = torch.arange(0, len(train.images), -(-len(train.images) // WATCHED), device=device)
    watched = train.images.take(some), train.targets(some)
    spec = Spec(
        variant=name,
        family=variant.family,
        network=variant.network,
        size=variant.size,
        decode_size=store.size,
        classes=store.classes,
        flip_test=variant.flip_test,
        about=about or {},
    )
    with active(device), seeded(seed, device):
        state = begin(spec, variant.train, len(train.labels), device, seed, ranks)
        saved = Checkpoints(folder / "checkpoints", identity(variant, store, seed, fold))
        saved.resume(state)
        if ranks.is_main:
            trim(folder, state.epoch)
        else:  # or dropout would take the same units out of every part of a batch
            seed_with(ranks.seed(seed, state.steps), device)
        while state.epoch < variant.train.epochs:
            for _ in run_epoch(state, train, variant, ranks):
                stopped, late, due = ranks.any(stop(), state.spent > limit, ranks.is_main and saved.due())
                if stopped or late or due:
                    mean_loss(state, train, ranks)  # raises before weights are saved that an explosion has spoilt
                    if ranks.is_main:
                        saved.save(state)
                if stopped or late:
                    leave(state, variant.train.epochs, ranks, limit if late and not stopped else None)
            metrics = {"train_loss": mean_loss(state, train, ranks)}
            pulled = gradient_stats(state.net, *watched, state.epoch, variant.train.epochs)
            metrics |= validate_epoch(state, val, variant.flip_test)
            metrics |= {"lr": state.schedule.rate, "seconds": state.end_epoch()}
            if ranks.is_main:
                record(folder / METRICS, state.epoch, metrics=metrics)
                record(folder / GRADIENTS, state.epoch, **pulled)
                saved.save_if_cheap(state)
    state.recorder.forget()
    state.net.load_state_dict(state.best_weights)
    judged = outputs(state.net, val, spec.flip_test)
    spec = replace(spec, temperature=temperature(judged, val.labels))
    if ranks.is_main:
        Model(state.net, spec, device).save(folder / "model", store.pixels(store.part("train", fold=fold)[:PROBE]))
    batch, accuracy = min(variant.train.batch, len(train.labels)), share_right(judged, val.labels)
    return outcome(state, spec, train, batch, accuracy)


def outcome(state: State, spec: Spec, train: Part, batch: int, val_accuracy: float) -> Outcome:
    """What the finished training came to, by the weights that are kept; each step took `batch` images."""
    return Outcome(
        best_epoch=state.best.epoch,
        val_accuracy=val_accuracy,
        parameters=sum(p.numel() for p in state.net.parameters()),
        seconds=state.seconds,
        images_per_second=state.steps * batch / state.seconds,
        overfitting_gap=validate(state.net, train, spec.flip_test)[0] - val_accuracy,
        micro_batch=state.micro_batch,
        precision=state.precision,
        notes=state.notes,
    )


def leave(state: State, epochs: int, ranks: Ranks, limit: float | None) -> NoReturn:
    """End the training in the middle of an epoch.

    Raises:
        TrainingError: there is a limit, in seconds, and it is reached.
        Interrupted: there is none.
    """
    ranks.barrier()  # or torchrun, once the others are gone, ends the first before it has written
    epoch = state.epoch + 1
    if limit is None:
        raise Interrupted(f"interrupted in epoch {epoch}; the checkpoint is written")
    raise TrainingError(
        f"the time limit of {limit / 60:g} minutes is reached in epoch {epoch} of {epochs}; the checkpoint is written: "
        "raise --time-limit, and the next retraining goes on from there"
    )


def validate_epoch(state: State, val: Part, flip: bool) -> dict[str, float]:
    """The epoch's val_loss and val_accuracy; its weights are kept if they are the best so far.

    Raises:
        TrainingError: the loss is not finite.
    """
    judged = state.eval_net
    with state.autocast():
        accuracy, loss = validate(judged, val, flip, state.recorder)
    if not math.isfinite(loss):
        raise TrainingError(f"validation loss is {loss} after epoch {state.epoch + 1}: lower train.lr")
    if (accuracy, -loss) > state.best[:2]:
        state.best = Best(accuracy, -loss, state.epoch + 1)
        state.best_weights = {key: value.detach().clone() for key, value in judged.state_dict().items()}
    return {"val_loss": loss, "val_accuracy": accuracy}


def run_epoch(state: State, train: Part, variant: Variant, ranks: Ranks) -> Iterator[None]:
    """One pass over the shuffled images, or the rest of one, a step at a time; the host never waits for the device."""
    work, learning = partial(step, state, variant.train.label_smoothing), None
    for images, targets in batches(state, train, variant):
        learning = learning or to_learning(state)  # while the device is at the first images already
        given = ranks.local_rows(images), ranks.local_rows(targets)
        state.losses.append(state.recorder.run("step", work, *given, like=(state.micro_batch, learning)))
        state.schedule.step()
        yield
    draw_ahead(state, train, variant)


def to_learning(state: State) -> Hashable:
    """Turn the network from judging to learning; equal for epochs in which the same parts of it learn."""
    state.net.train()
    if hasattr(state.net, "start_epoch"):
        state.net.start_epoch(state.epoch)
    return tuple(p.requires_grad for p in state.net.parameters()), tuple(m.training for m in state.net.modules())


def step(state: State, smoothing: float, images: Tensor, targets: Tensor) -> Tensor:
    """Forward, backward, optimiser, average; the mean loss of the batch."""
    loss = backward(state, images, targets, smoothing)
    state.optimizer.step()
    if state.ema:
        state.ema.update()
    return loss


def backward(state: State, images: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Gradients of the mean loss of a batch, and that loss; in halves of halves where the device's memory is short.

    Normalisation then sees the smaller parts, so results are not those of the whole batch to the last bit.
    """
    while True:
        state.optimizer.zero_grad(set_to_none=True)
        parts = math.ceil(len(images) / state.micro_batch)  # as even as can be
        try:
            return backward_in_parts(state, images, targets, parts, smoothing)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if images.is_cuda and torch.cuda.is_current_stream_capturing():  # the recorder goes on without
                raise
            if state.several:  # the other processes are in the middle of this batch
                raise TrainingError("out of memory in one of several processes: lower train.batch or size") from None
            now = math.ceil(len(images) / parts)
            smaller = math.ceil(len(images) / min(2 * parts, len(images) // 2))  # normalisation needs two images
            if smaller == now:
                told = f"out of memory with {now} images at a time: lower size or the network"
                raise TrainingError(told) from None
            state.micro_batch = smaller
            state.notes.append(f"out of memory: {state.micro_batch} images at a time from step {state.steps + 1} on")
        torch.accelerator.empty_cache()


def backward_in_parts(state: State, images: Tensor, targets: Tensor, parts: int, smoothing: float) -> Tensor:
    """As `backward`, if there is memory. What it has made until it finds none goes with it, before another try."""
    total = torch.zeros((), device=images.device)
    pairs = zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True)
    for left, (part, wanted) in zip(range(parts - 1, -1, -1), pairs, strict=True):
        with state.without_others() if left else nullcontext():  # gradients travel once a step
            with state.autocast():
                out = state.forward(normalise(part).contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(out.float(), wanted, label_smoothing=smoothing) * (len(part) / len(images))
            loss.backward()
        total += loss.detach()
    return total


def mean_loss(state: State, train: Part, ranks: Ranks) -> float:
    """The mean loss of the epoch's steps so far, of all processes.

    Raises:
        TrainingError: one of them is not finite, or has exploded.
    """
    mean = ranks.mean(torch.stack(state.losses))
    state.losses, values = list(mean), mean.tolist()
    assert state.draws is not None
    for number, value in enumerate(values):
        if not value < EXPLODED * math.log(len(train.one_hot)):
            first, *others = train.paths[state.draws.order[number].cpu().numpy()]
            place = f"epoch {state.epoch + 1}, step {number + 1} of {len(state.draws.order)}"
            raise TrainingError(
                f"loss is {value:g} in {place} (its batch: {first} and {len(others)} others): lower train.lr"
            )
    return sum(values) / len(values)


@torch.inference_mode()
def outputs(net: nn.Module, part: Part, flip: bool, recorder: GraphRecorder = UNRECORDED) -> Tensor:
    """float32 logits [N, K] of a part, as it is."""
    net.eval()
    rows = torch.arange(len(part.images), device=part.labels.device)
    side_stream_waits(rows.device)
    blocks = part.images.batches(rows.split(eval_batch_size(net, part.images.size)))
    work, kind = partial(logits, net, flip=flip), id(net)
    return torch.cat([recorder.run(f"outputs of {len(b)}", work, b, like=kind) for b in map(from_side_stream, blocks)])


def validate(net: nn.Module, part: Part, flip: bool, recorder: GraphRecorder = UNRECORDED) -> tuple[float, float]:
    """Accuracy (0-1) and mean cross-entropy (nats)."""
    out = outputs(net, part, flip, recorder)
    return share_right(out, part.labels), F.cross_entropy(out, part.labels).item()


def share_right(out: Tensor, labels: Tensor) -> float:
    """Accuracy (0-1) of logits [N, K]."""
    return (out.argmax(1) == labels).sum().item() / len(out)


def record(path: Path, epoch: int, **content: Any) -> None:
    """One line to a file of the training's own record; a tracker copies from metrics.jsonl."""
    append(path, json.dumps({"epoch": epoch, "time": time.time(), **content}) + "\n")


def trim(folder: Path, epoch: int) -> None:
    """Leave out of the record the epochs after `epoch`, which no checkpoint has and which come again."""
    for path in (folder / METRICS, folder / GRADIENTS):
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)[:epoch]
            os.truncate(path, sum(map(len, lines)))  # in place: whoever copies from it may have it open


def identity(variant: Variant, store: Store, seed: int, fold: int) -> str:
    """Equal for trainings of which one may go on with the other's checkpoint."""
    rows = [store.manifest[column].tolist() for column in ("sha256", "label", "split", "fold")]
    told = json.dumps([variant.model_dump(mode="json"), seed, fold, store.size, rows])
    return hashlib.sha256(told.encode()).hexdigest()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Initialisation and dropout take no generator in torch: seed a fork of its global state, and put it back."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        seed_with(seed, device)
        yield


def seed_with(seed: int, device: torch.device) -> None:
    """The CPU's global generator and this device's; torch.manual_seed would take those of all others as well."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
