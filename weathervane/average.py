"""The weights that are validated and kept: an average over the last steps."""

import copy

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """An exponential moving average of weights and of normalisation statistics; `decay` of it stays at each step.

    What torch's `AveragedModel` computes, without its counter, which is brought to the device and waited for at each
    step; and whole numbers, which count batches, are copied.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__()
        self.module, self.begun, self._share = copy.deepcopy(net), False, 1 - decay

    @torch.no_grad()
    def update_parameters(self, net: nn.Module) -> None:
        """After each step of the optimiser. The first takes the weights as they are."""
        pairs = list(zip(_held(self.module), _held(net), strict=True))
        moving = [pair for pair in pairs if self.begun and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (self.begun and pair[0].is_floating_point())]
        if moving:
            torch._foreach_lerp_([own for own, _ in moving], [new for _, new in moving], self._share)
        if copied:
            torch._foreach_copy_([own for own, _ in copied], [new for _, new in copied])
        self.begun = True


def _held(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
