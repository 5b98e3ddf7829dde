"""Optimisers that leave torch.compile's front end alone compute what torch's do."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from weathervane.eager import eager


@pytest.mark.parametrize(("kind", "options"), [(SGD, {"momentum": 0.9, "nesterov": True}), (AdamW, {})])
def test_the_same_steps(kind: type[Optimizer], options: dict[str, object]) -> None:
    """Weights and the optimiser's own state are equal to the last bit, also after its state went to disk and back."""
    ends = []
    for maker in (kind, eager(kind)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = maker(net.parameters(), lr=0.1, weight_decay=0.01, **options)
        for number in range(6):
            if number == 3:
                held, optimizer = optimizer.state_dict(), maker(net.parameters(), lr=0.1, weight_decay=0.01, **options)
                optimizer.load_state_dict(held)
            optimizer.zero_grad(set_to_none=True)
            net(torch.randn(7, 5)).square().mean().backward()
            optimizer.step()
        ends.append([*net.parameters()])
    assert isinstance(optimizer, kind)
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
