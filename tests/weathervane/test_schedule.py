"""The learning rate at each step, as the optimiser gets it."""

import pytest
import torch

from weathervane.schedule import Schedule, one_cycle


def test_each_step_and_each_group_has_its_own_rate() -> None:
    """Ten steps go through one cycle once, and a group with a tenth of the peak has a tenth of the rate all the way."""
    one, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [one], "peak": 1.0}, {"params": [other], "peak": 0.1}], lr=1.0)
    schedule = Schedule(optimizer, 10, 0.3)
    for step in range(10):
        rates = [group["lr"] for group in optimizer.param_groups]
        rate = one_cycle((step + 0.5) / 10, 0.3)
        assert rates == pytest.approx([rate, 0.1 * rate])
        schedule.step()
