"""The learning rate over a training: one cycle."""

import math

from torch import Tensor
from torch.optim import Optimizer


class Schedule:
    """Sets the rates of an optimiser's groups, each a share of the group's own `peak`, for `steps` steps in all."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float) -> None:
        self._optimizer, self._steps, self._warmup = optimizer, steps, warmup
        self.go_to(0)

    @property
    def rate(self) -> float:
        """Of the first group, for the step that comes next."""
        return float(self._optimizer.param_groups[0]["peak"] * self._share)

    def step(self) -> None:
        """After each step of the optimiser."""
        self.go_to(self.done + 1)

    def go_to(self, done: int) -> None:
        """Set the rates as they are after `done` steps; one that is a tensor is written to, and the host goes on."""
        self.done, self._share = done, one_cycle((done + 0.5) / self._steps, self._warmup)
        for group in self._optimizer.param_groups:
            rate = group["peak"] * self._share
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def one_cycle(done: float, warmup: float) -> float:
    """The share (0-1) of the peak learning rate when a share `done` of all steps is: half a cosine up, half one down.

    Smith & Topin 2017 (arXiv 1708.07120). Not torch's OneCycleLR, which divides by zero where the rise comes to one
    step.
    """
    phase = done / warmup - 1 if done < warmup else (done - warmup) / (1 - warmup)
    return (1 + math.cos(math.pi * phase)) / 2
