"""The weights that are validated and kept: an average over the last steps."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Average(AveragedModel):
    """An exponential moving average of weights and of normalisation statistics; `decay` of it stays at each step.

    Computes what torch's own does, which brings its counter to the device at each step, and waits for it.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net, use_buffers=True)
        self._share = 1 - decay

    @torch.no_grad()
    def update_parameters(self, net: nn.Module) -> None:
        """After each step of the optimiser. The first takes the weights as they are; whole numbers are copied."""
        pairs = list(zip(_held(self.module), _held(net), strict=True))
        moving = [pair for pair in pairs if self.n_averaged and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (self.n_averaged and pair[0].is_floating_point())]
        if moving:
            torch._foreach_lerp_([own for own, _ in moving], [new for _, new in moving], self._share)
        if copied:
            torch._foreach_copy_([own for own, _ in copied], [new for _, new in copied])
        self.n_averaged += 1


def _held(net: nn.Module) -> list[torch.Tensor]:
    return [*net.parameters(), *net.buffers()]
