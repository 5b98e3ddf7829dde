"""All that changes while a variant trains: how it starts, how it goes to disk, and how it comes back.

Legend: N = images.
"""

import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from weathervane.average import EMA
from weathervane.cuda_graph import GraphRecorder
from weathervane.device import has_bfloat16
from weathervane.draws import Draws
from weathervane.eager import eager
from weathervane.errors import InputError
from weathervane.model import Spec, build
from weathervane.ranks import Ranks
from weathervane.schedule import Schedule
from weathervane.variant import Train

# What an epoch leaves to chance, and its images and targets, float32 [B, N, ...], of B steps at a time.
Coming = tuple[Draws, Iterator[tuple[Tensor, Tensor]]]


class Best(NamedTuple):
    """How good the best epoch so far is; the larger, the better."""

    accuracy: float = -1.0
    minus_loss: float = -math.inf
    epoch: int = 0


@dataclass
class State:
    """The networks, what moves them, where in the data the training stands, and the best epoch so far."""

    net: nn.Module
    forward: nn.Module  # through which a batch goes: the network itself, or with the gradients of all processes
    ema: EMA | None
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    recorder: GraphRecorder  # by which the device does again what it has done before
    rng: np.random.Generator  # order and blending of batches, on the host
    generator: torch.Generator  # augmentation, on the device
    planned_micro_batch: int  # images that go through the network at once
    micro_batch: int  # the same; fewer where memory is short
    bfloat16: bool = False  # what the network computes in until it is kept, or else float32
    epoch: int = 0  # finished ones
    draws: Draws | None = None  # of the epoch that is under way
    coming: Coming | None = None  # the next one's, where it is drawn ahead
    losses: list[Tensor] = field(default_factory=list)  # of its steps so far
    best: Best = field(default_factory=Best)
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # the weights of that epoch
    seconds: float = 0.0  # spent in the loop, by all processes that worked at it
    epoch_seconds: float = 0.0  # of them, in the epoch that is under way
    since: float = field(default_factory=time.perf_counter)  # when they were last counted
    notes: list[str] = field(default_factory=list)  # what a person should know of this training

    @property
    def eval_net(self) -> nn.Module:
        """The weights that are validated and kept: the averaged ones, where there are any."""
        return self.ema.read(self.steps) if self.ema else self.net

    @property
    def precision(self) -> str:
        """What the network learns in, and epochs are judged in."""
        return "bfloat16" if self.bfloat16 else "float32"

    @property
    def several(self) -> bool:
        """Other processes have their part of each batch."""
        return isinstance(self.forward, nn.parallel.DistributedDataParallel)

    def autocast(self) -> AbstractContextManager[object]:
        """Within it the network computes in what it learns in; the loss does not.

        Weights in bfloat16 are not kept from batch to batch: a recording of one would read those of another.
        """
        kind = self.generator.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False)

    def without_others(self) -> AbstractContextManager[object]:
        """Within it gradients add up in this process alone; the next pass outside of it brings those of all."""
        shared = self.forward
        return shared.no_sync() if isinstance(shared, nn.parallel.DistributedDataParallel) else nullcontext()

    @property
    def steps(self) -> int:
        """Steps done since the beginning."""
        return self.schedule.done

    @property
    def spent(self) -> float:
        """Seconds in the loop until now, by all processes that worked at it."""
        return self.seconds + time.perf_counter() - self.since

    def count_time(self) -> None:
        """Add what has passed since to the seconds."""
        now = time.perf_counter()
        self.seconds += now - self.since
        self.epoch_seconds += now - self.since
        self.since = now

    def end_epoch(self) -> float:
        """Turn to the next epoch; the seconds that this one took."""
        self.count_time()
        took, self.epoch_seconds = self.epoch_seconds, 0.0
        self.epoch += 1
        self.draws, self.losses = None, []
        return took


def begin(spec: Spec, train: Train, n: int, device: torch.device, seed: int, ranks: Ranks) -> State:
    """Everything as it stands before the first step on `n` training images."""
    net = build(spec)
    if hasattr(net, "pretrain"):
        net.pretrain()
    net = ranks.sync_batchnorm(net.to(device))
    batch = min(train.batch, n)
    ranks.check_batch(batch, n)
    optimizer, schedule = optimization(net, train, train.epochs * (n // batch))
    share = batch // ranks.world_size
    if share // train.accumulate < 2:  # normalisation needs two images
        raise InputError(
            f"train.accumulate: {train.accumulate} parts of {share} images: a part needs 2 or more: lower it"
            f"{', or raise train.batch' if batch < n else ''}"
        )
    micro_batch = math.ceil(share / train.accumulate)
    notes: list[str] = []
    recorded = device.type == "cuda" and ranks.world_size == 1 and train.record
    return State(
        net=net,
        forward=ranks.data_parallel(compiled(net, device) if train.compile else net),
        ema=EMA(net, train.ema) if train.ema else None,
        optimizer=optimizer,
        schedule=schedule,
        recorder=GraphRecorder(recorded, notes),
        rng=np.random.default_rng(seed),
        generator=torch.Generator(device).manual_seed(seed),
        planned_micro_batch=micro_batch,
        micro_batch=micro_batch,
        bfloat16=train.bfloat16 and has_bfloat16(device.type),
        notes=notes,
    )


def compiled(net: nn.Module, device: torch.device) -> nn.Module:
    """The network by torch.compile, which begins its work with the first batch.

    Raises:
        InputError: it needs a compiler, for C++ on a CPU and for C on a CUDA GPU, and there is none.
    """
    needed = {"cpu": ("CXX", "g++", "c++", "clang++"), "cuda": ("CC", "gcc", "cc", "clang")}.get(device.type, ())
    if needed and not any(map(shutil.which, (os.environ.get(needed[0], needed[1]), *needed[1:]))):
        raise InputError(f"train.compile: no compiler here: install {needed[1]}, or leave it out")
    return cast(nn.Module, torch.compile(net))


def tensors(state: State) -> dict[str, Tensor]:
    """Whatever of the state is a tensor, by name."""
    found = {f"net.{name}": value for name, value in state.net.state_dict().items()}
    found |= {f"kept.{name}": value for name, value in state.best_weights.items()}
    if state.ema:
        found |= {f"sum.{name}": value for name, value in state.ema.sums.items()}
    for number, slots in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{slot}": value for slot, value in slots.items() if value is not None}
    if state.draws is not None:
        found |= {f"draws.{field.name}": getattr(state.draws, field.name) for field in fields(Draws)}
        found["losses"] = torch.stack(state.losses)
        if len(state.losses) == len(state.draws.order):  # no step comes that makes them again, for the epoch's record
            named = state.net.named_parameters()
            found |= {f"gradient.{name}": p.grad for name, p in named if p.grad is not None}
    found |= {"random.global": torch.get_rng_state(), "random.generator": state.generator.get_state()}
    if state.generator.device.type == "cuda":
        found["random.cuda"] = torch.cuda.get_rng_state(state.generator.device)
    return found


def content(state: State) -> dict[str, Any]:
    """The rest, as JSON holds it."""
    return {
        "rng": state.rng.bit_generator.state,
        "steps": state.steps,
        "micro": state.micro_batch if state.micro_batch < state.planned_micro_batch else None,
        "epoch": state.epoch,
        "best": list(state.best) if state.best_weights else None,
        "seconds": [state.seconds, state.epoch_seconds],
        "notes": state.notes,
    }


def restore(state: State, held: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Bring a fresh state of the same variant to where `tensors` and `content` were taken.

    Raises:
        KeyError, RuntimeError, ValueError: they are of another variant.
    """

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}

    device = state.generator.device
    state.net.load_state_dict(below("net."))
    if state.ema:
        for name, value in state.ema.sums.items():
            value.copy_(held[f"sum.{name}"])
    _restore_optimizer(state.optimizer, below("optimizer."))
    state.schedule.go_to(rest["steps"])
    state.rng.bit_generator.state = rest["rng"]
    torch.set_rng_state(held["random.global"])
    if held["random.generator"].shape == state.generator.get_state().shape:
        state.generator.set_state(held["random.generator"])
    else:  # another kind of device went before, whose numbers this one does not have
        state.generator.manual_seed(state.generator.initial_seed() + rest["steps"])
    if device.type == "cuda" and "random.cuda" in held:
        torch.cuda.set_rng_state(held["random.cuda"], device)
    if "losses" in held:
        drawn = below("draws.")
        state.draws = Draws(drawn["order"].to(device), drawn["chances"].to(device), drawn["blends"])
        state.losses = list(held["losses"].to(device))
        for name, value in below("gradient.").items():
            state.net.get_parameter(name).grad = _like(state.net.get_parameter(name), value)
    state.best_weights = {name: value.to(device) for name, value in below("kept.").items()}
    state.best = Best(*rest["best"]) if rest["best"] else state.best
    state.micro_batch, state.epoch = rest["micro"] or state.micro_batch, rest["epoch"]
    state.seconds, state.epoch_seconds = rest["seconds"]
    state.notes[:] = rest["notes"]


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """In the parameter's memory format: another one may take other kernels, and round otherwise."""
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _restore_optimizer(optimizer: torch.optim.Optimizer, held: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in held.items():
        number, _, slot = name.partition(".")
        like = parameters[int(number)]
        slots.setdefault(int(number), {})[slot] = _like(like, value) if value.shape == like.shape else value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def optimization(net: nn.Module, train: Train, steps: int) -> tuple[torch.optim.Optimizer, Schedule]:
    """The optimiser and its one-cycle schedule; weights of one dimension do not decay.

    A step is one kernel for many weights ("fused"). On a GPU the rates lie there, so that a recorded step reads them.
    """
    device = next(net.parameters()).device
    on_gpu = device.type == "cuda"

    groups: list[dict[str, Any]] = []
    for parameters, share in net.param_groups() if hasattr(net, "param_groups") else [(list(net.parameters()), 1.0)]:
        flat = [p for p in parameters if p.ndim < 2]
        deep = [p for p in parameters if p.ndim >= 2]
        for some, decay in ((deep, train.weight_decay), (flat, 0.0)):
            rate = torch.zeros((), device=device) if on_gpu else 0.0  # the schedule sets it
            groups.append({"params": some, "weight_decay": decay, "lr": rate, "peak": train.lr * share})
    optimizer: torch.optim.Optimizer
    if train.optimizer == "adamw":
        optimizer = eager(torch.optim.AdamW)(groups, lr=train.lr, fused=True, capturable=on_gpu)
    else:
        optimizer = eager(torch.optim.SGD)(groups, lr=train.lr, momentum=0.9, nesterov=True, fused=True)
    return optimizer, Schedule(optimizer, steps, train.warmup)
