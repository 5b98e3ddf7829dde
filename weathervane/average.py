"""The weights that are validated and kept: an average over the last steps."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """An exponential moving average of weights and of normalisation statistics; `decay` of it stays at each step.

    Its sum begins at zero, and what is missing of it after n steps, decay^n, is made up for when it is read (Kingma &
    Ba 2015, arXiv 1412.6980, section 3): begun with the first step's weights, it would be theirs by a third after
    1 / (1 - decay) steps. So all steps are alike, as a recording of them has to be. Whole numbers, which count
    batches, are those of the last step.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay, self._net, self._read = decay, net, copy.deepcopy(net)
        self._moving = _moving(net)
        self.sums = {name: torch.zeros_like(value) for name, value in self._moving.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After each step of the optimiser."""
        torch._foreach_lerp_(list(self.sums.values()), list(self._moving.values()), 1 - self._decay)

    @torch.no_grad()
    def read(self, steps: int) -> nn.Module:
        """The network as it is on average after so many steps; one and the same module, filled anew each time."""
        self._read.load_state_dict(self._net.state_dict())
        values = list(_moving(self._read).values())
        torch._foreach_copy_(values, torch._foreach_div(list(self.sums.values()), 1 - self._decay**steps))
        return self._read


def _moving(net: nn.Module) -> dict[str, Tensor]:
    """What is averaged, by its name in the network's state, and where it lies."""
    held = net.state_dict(keep_vars=True)
    return {name: value.detach() for name, value in held.items() if value.is_floating_point()}
