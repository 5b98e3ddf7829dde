"""The training loop: one variant, one device, one page.

Legend: N = images, S = size, K = classes.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from weathervane.augment import augment, mix
from weathervane.calibration import temperature
from weathervane.device import normalise, resident, unit
from weathervane.errors import InputError, TrainingError
from weathervane.model import PROBE, Model, Spec, build, logits
from weathervane.store import Store
from weathervane.variant import Train, Variant


@dataclass(frozen=True)
class Outcome:
    """What a fit came to; seconds are of the loop alone. `overfitting_gap` is by how much the kept weights are
    better on the training images, as they are, than on the validation ones (accuracy, -1 to 1)."""

    best_epoch: int
    val_accuracy: float
    parameters: int
    seconds: float
    images_per_second: float
    overfitting_gap: float


@dataclass(frozen=True)
class Part:
    """A part of the dataset, resident on the device."""

    images: Tensor  # uint8 [N, 3, S, S]
    labels: Tensor  # int64 [N], 0..K-1
    targets: Tensor  # float32 [N, K], one-hot


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
) -> Outcome:
    """Train on all folds but one, validate on that one, and leave the best epoch's model in `folder`/model.

    Best is the highest validation accuracy, then the lowest validation loss. Each epoch adds a line to
    `folder`/metrics.jsonl. Equal seeds give equal weights on a CPU with equal threads.

    Raises:
        InputError: the store is smaller than the variant's size, or a part is empty.
        TrainingError: a loss that is not finite, with its epoch and step.
    """
    train, val = load(store, variant, fold, device)
    spec = Spec(
        name,
        variant.family,
        variant.network,
        variant.size,
        store.size,
        store.classes,
        variant.flip_test,
        about or {},
    )
    with seeded(seed, device):
        state = begin(spec, variant.train, len(train.labels), device, seed)
        best, started = (-1.0, -math.inf, 0), time.perf_counter()
        for epoch in range(1, variant.train.epochs + 1):
            since = time.perf_counter()
            loss = run_epoch(state, train, variant, epoch)
            accuracy, val_loss = validate(state.judged, val, variant.flip_test)
            if not math.isfinite(val_loss):
                raise TrainingError(f"validation loss is {val_loss} after epoch {epoch}: lower train.lr")
            metrics = {"train_loss": loss, "val_loss": val_loss, "val_accuracy": accuracy}
            metrics |= {"lr": state.schedule.get_last_lr()[0], "seconds": time.perf_counter() - since}
            record(folder, epoch, metrics)
            if (accuracy, -val_loss) > best[:2]:
                best = (accuracy, -val_loss, epoch)
                kept = {key: value.detach().clone() for key, value in state.judged.state_dict().items()}
        seconds = time.perf_counter() - started
    state.net.load_state_dict(kept)
    spec = replace(spec, temperature=temperature(outputs(state.net, val, variant.flip_test), val.labels))
    gap = validate(state.net, train, variant.flip_test)[0] - best[0]
    Model(state.net, spec, device).save(folder / "model", store.pixels(store.part("train", fold=fold)[:PROBE]))
    parameters = sum(p.numel() for p in state.net.parameters())
    return Outcome(best[2], best[0], parameters, seconds, variant.train.epochs * len(train.labels) / seconds, gap)


@dataclass
class State:
    """All that changes while a variant trains."""

    net: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: np.random.Generator  # order and blending of batches, on the host
    generator: torch.Generator  # augmentation, on the device

    @property
    def judged(self) -> nn.Module:
        """The weights that are validated and kept: the averaged ones, where there are any."""
        return self.averaged.module if self.averaged else self.net


def begin(spec: Spec, train: Train, n: int, device: torch.device, seed: int) -> State:
    """Everything as it stands before the first step on `n` training images."""
    net = build(spec).to(device)
    steps = train.epochs * (n // min(train.batch, n))
    optimizer, schedule = optimization(net, train, steps)
    rng, generator = np.random.default_rng(seed), torch.Generator(device).manual_seed(seed)
    return State(net, average(net, train.ema), optimizer, schedule, rng, generator)


def load(store: Store, variant: Variant, fold: int, device: torch.device) -> tuple[Part, Part]:
    """Train and validation parts on the device."""
    if variant.size > store.size:
        raise InputError(
            f"size: {variant.size} is larger than the prepared images: set image_size: {variant.size} in "
            "params/prepare.yaml"
        )
    numbers = np.searchsorted(store.classes, store.manifest["label"])
    parts = []
    for rows in (store.part("train", without_fold=fold), store.part("train", fold=fold)):
        if len(rows) < 2:
            raise InputError(f"{store.folder}: fold {fold} leaves {len(rows)} images in a part: add images")
        labels = torch.from_numpy(numbers[rows]).to(device)
        targets = F.one_hot(labels, len(store.classes)).float()
        parts.append(Part(resident(store.pixels(rows), variant.size, device), labels, targets))
    return parts[0], parts[1]


def optimization(
    net: nn.Module, train: Train, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser and its one-cycle schedule; weights of one dimension do not decay."""
    flat = [p for p in net.parameters() if p.ndim < 2]
    deep = [p for p in net.parameters() if p.ndim >= 2]
    groups: list[dict[str, Any]] = [{"params": deep, "weight_decay": train.weight_decay}]
    groups.append({"params": flat, "weight_decay": 0.0})
    optimizer: torch.optim.Optimizer
    if train.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=train.lr)
    else:
        optimizer = torch.optim.SGD(groups, lr=train.lr, momentum=0.9, nesterov=True)
    # Not torch's OneCycleLR, which divides by zero where the rise comes to one step.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle((step + 0.5) / steps, train.warmup))
    return optimizer, schedule


def one_cycle(done: float, warmup: float) -> float:
    """The share (0-1) of the peak learning rate when a share `done` of all steps is: half a cosine up, half one down.

    Smith & Topin 2017 (arXiv 1708.07120).
    """
    phase = done / warmup - 1 if done < warmup else (done - warmup) / (1 - warmup)
    return (1 + math.cos(math.pi * phase)) / 2


def average(net: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of weights and of normalisation statistics; None if `decay` is 0."""
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def run_epoch(state: State, train: Part, variant: Variant, epoch: int) -> float:
    """One pass over the shuffled images; the mean loss. Only at its end does the host wait for the device."""
    state.net.train()
    losses, device = [], train.labels.device
    for chosen in batches(len(train.labels), variant.train.batch, state.rng, device):
        images = augment(unit(train.images[chosen]), variant.augment, state.generator)
        images, targets = mix(images, train.targets[chosen], variant.augment, state.rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            out = state.net(normalise(images).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(out.float(), targets, label_smoothing=variant.train.label_smoothing)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        state.schedule.step()
        if state.averaged:
            state.averaged.update_parameters(state.net)
        losses.append(loss.detach())
    values = torch.stack(losses).tolist()
    for step, value in enumerate(values, 1):
        if not math.isfinite(value):
            raise TrainingError(f"loss is {value} in epoch {epoch}, step {step} of {len(values)}: lower train.lr")
    return sum(values) / len(values)


def batches(n: int, size: int, rng: np.random.Generator, device: torch.device) -> Iterator[Tensor]:
    """Shuffled row numbers, int64 [size] each; the rest that fills no batch waits for the next shuffle."""
    order = torch.from_numpy(rng.permutation(n)).to(device)
    size = min(size, n)
    for first in range(0, n - size + 1, size):
        yield order[first : first + size]


@torch.inference_mode()
def outputs(net: nn.Module, part: Part, flip: bool) -> Tensor:
    """float32 logits [N, K] of a part, as it is."""
    net.eval()
    return torch.cat([logits(net, block, flip) for block in part.images.split(256)])


def validate(net: nn.Module, part: Part, flip: bool) -> tuple[float, float]:
    """Accuracy (0-1) and mean cross-entropy (nats)."""
    out = outputs(net, part, flip)
    right = (out.argmax(1) == part.labels).sum().item()
    return right / len(out), F.cross_entropy(out, part.labels).item()


def record(folder: Path, epoch: int, metrics: dict[str, float]) -> None:
    """One line to metrics.jsonl, the training's own record; a tracker copies from it."""
    line = {"epoch": epoch, "time": time.time(), "metrics": metrics}
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Initialisation and dropout take no generator in torch: seed a fork of its global state, and put it back."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        torch.manual_seed(seed)
        yield
