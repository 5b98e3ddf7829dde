"""Temperature scaling: the temperature that was in the data is found again, and what it does is undone exactly."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from weathervane.calibration import HIGHEST, LOWEST, temperature, untempered


def drawn(true: float, n: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from softmax(logits / true)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, 4, generator=generator)
    return logits, torch.multinomial((logits / true).softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_found(true: float) -> None:
    """Labels drawn at a temperature give it back to within 5 % (n = 20,000)."""
    assert temperature(*drawn(true)) == pytest.approx(true, rel=0.05)


def test_it_is_where_the_likelihood_is_highest() -> None:
    """No other temperature of a fine grid gives a lower loss to labels each of which is right by (n + 1) / (n + 2); the
    best of all for labels that are right for certain is close to it."""
    logits, labels = drawn(1.7, 200)

    def loss(t: float, doubt: float = 4 / 3 / 202) -> float:
        return F.cross_entropy(logits.double() / t, labels, label_smoothing=doubt).item()

    best = temperature(logits, labels)
    assert all(loss(other) >= loss(best) - 1e-9 for other in np.geomspace(LOWEST, HIGHEST, 400))
    assert min(np.geomspace(LOWEST, HIGHEST, 400), key=lambda t: loss(t, 0.0)) == pytest.approx(best, rel=0.05)


def test_few_near_misses_make_nobody_certain() -> None:
    """Two wrong answers of 142, both by a hair: their likelihood would bear any certainty of the others. A mistake that
    is as far off as the others are right costs some nats, not dozens."""
    logits = torch.zeros(142, 4)
    logits[:, 0] = torch.linspace(4, 12, 142)
    labels = torch.zeros(142, dtype=torch.int64)
    logits[:2, 0], labels[:2] = 0.01, 1
    wrong = F.cross_entropy(torch.tensor([[8.0, 0, 0, 0]]) / temperature(logits, labels), torch.tensor([1]))
    bare = min(np.geomspace(LOWEST, HIGHEST, 400), key=lambda t: F.cross_entropy(logits / t, labels).item())
    assert F.cross_entropy(torch.tensor([[8.0, 0, 0, 0]]) / bare, torch.tensor([1])) > 15 > 10 > wrong


def test_without_a_mistake_certainty_grows_with_the_number_of_images() -> None:
    """Where all of n answers are right, they are made as sure as (n + 1) / (n + 2), and not surer: a network that says
    0.8 is neither left there nor brought to 1."""
    for n in (6, 62, 998):
        logits = torch.zeros(n, 4)
        logits[:, 2] = math.log(0.8 / (0.2 / 3))
        t = temperature(logits, torch.full((n,), 2))
        assert torch.softmax(logits / t, 1)[0, 2].item() == pytest.approx((n + 1) / (n + 2), abs=1e-4)


def test_a_network_that_knows_nothing_ends_at_the_bound() -> None:
    """Answers that are all wrong make probabilities all but equal, not infinite or NaN."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert temperature(logits, torch.tensor([1, 0])) == pytest.approx(HIGHEST, rel=0.01)


def test_what_scaling_does_is_undone() -> None:
    """Probabilities at T, raised to T, are those of the bare logits, whatever T is; rows sum to 1."""
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * 4
    for t in (0.3, 1.0, 3.0):
        tempered = (logits / t).softmax(1).numpy()
        assert untempered(tempered, t) == pytest.approx(logits.softmax(1).numpy(), abs=1e-5)
        assert untempered(tempered, t).sum(1) == pytest.approx(np.ones(50))
