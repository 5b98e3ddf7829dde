"""What is recorded of gradients: norms that are known, what fades and what does not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.weathervane.test_fit import small
from tests.weathervane.test_resume import After
from weathervane.errors import Interrupted
from weathervane.fit import fit
from weathervane.gradients import gradient_stats, layer_norms, step_norms, unrolled
from weathervane.layers import Bands, Recurrent
from weathervane.store import Store

CPU = torch.device("cpu")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gradients.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_known_gradients_norm() -> None:
    """The gradient of the sum of a linear layer's outputs is the sum of its inputs, once an output; nothing is told of
    biases, of what is frozen, or before there was a backward pass."""
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    assert layer_norms(net) == {}
    net[1].requires_grad_(False)
    x = torch.randn(7, 3)
    net[0](x).sum().backward()
    assert layer_norms(net) == {"0.weight": pytest.approx((2**0.5) * x.sum(0).norm().item())}


def stack(activation: type[nn.Module]) -> list[float]:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for before in (3 * 8 * 8, 64, 64, 64, 64):
        layers += [nn.Linear(before, 64), activation()]
    net = nn.Sequential(*layers, nn.Linear(64, 4))
    F.cross_entropy(net(torch.randn(32, 3, 8, 8)), torch.arange(32) % 4).backward()
    return list(layer_norms(net).values())


def test_a_sigmoid_stack_fades_and_a_relu_stack_does_not() -> None:
    """Five sigmoids deep, a layer's gradient is smaller than the next one's, and the first layer's below a thousandth
    of the last's; with ReLU it is above a tenth."""
    faded, kept = stack(nn.Sigmoid), stack(nn.ReLU)
    assert len(faded) == len(kept) == 6
    assert faded[1:] == sorted(faded[1:]) and faded[0] / faded[-1] < 1e-3
    assert kept[0] / kept[-1] > 0.1


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
def test_unrolled_cells_compute_what_torchs_kernels_do(kind: type[nn.RNNBase], options: dict[str, Any]) -> None:
    """One step after the other, the top layer's outputs are those of the whole, in both directions."""
    reader = kind(5, 4, batch_first=True, **options)
    x = torch.randn(3, 6, 5)
    states = unrolled(reader, x)
    outputs = [torch.stack([state[0] for state in one], 1) for one in states]
    found = torch.cat([outputs[0], *(one.flip(1) for one in outputs[1:])], -1)
    assert torch.allclose(found, reader(x)[0], atol=1e-6)


def norms(reader: nn.RNNBase, last: bool = True) -> list[list[float]]:
    class Read(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, -1] if last else x.mean(1)

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reader = reader

        def forward(self, x: Tensor) -> Tensor:
            return self.reader(x)[0]

    torch.manual_seed(0)
    ways = 2 if reader.bidirectional else 1
    net = nn.Sequential(Bands(1), Reader(), Read(), nn.Linear(ways * reader.hidden_size, 4))
    found = step_norms(net, torch.randn(16, 3, 10, 4), torch.eye(4).repeat(4, 1))
    assert list(found) == ["1.reader"]
    return found["1.reader"]


@pytest.mark.parametrize("last", [True, False])
def test_an_elman_networks_gradient_fades_by_its_weights(last: bool) -> None:
    """With ReLU units that are on and a recurrence of half of the identity, a step back is half of the gradient: also
    where the loss hangs on the mean of all steps, of which only the last one's share is followed."""
    reader = nn.RNN(12, 6, batch_first=True, nonlinearity="relu")
    with torch.no_grad():
        reader.weight_hh_l0.copy_(torch.eye(6) / 2)
        reader.bias_ih_l0.fill_(100)
    (found,) = norms(reader, last)
    assert len(found) == 10 and found[-1] > 0
    assert [one / found[-1] for one in found] == pytest.approx([0.5**back for back in range(9, -1, -1)], rel=1e-4)


def test_an_lstm_that_forgets_nothing_does_not_fade() -> None:
    """With its forget gates open and no other recurrence the cell hands the gradient on as it is; with them half closed
    it is halved at each step. A simple recurrent network of the same start loses it."""
    shares = {}
    for name, bias in (("open", 30.0), ("half", 0.0)):
        torch.manual_seed(0)
        reader = nn.LSTM(12, 6, batch_first=True)
        with torch.no_grad():
            reader.weight_hh_l0.zero_()
            reader.weight_ih_l0[6:12] = 0
            reader.bias_ih_l0[6:12] = bias
            reader.bias_hh_l0[6:12] = 0
        (found,) = norms(reader)
        shares[name] = [one / found[-2] for one in found[:-1]]
    assert shares["open"] == pytest.approx([1.0] * 9, rel=1e-4)
    assert shares["half"] == pytest.approx([0.5**back for back in range(8, -1, -1)], rel=1e-4)
    torch.manual_seed(0)
    (found,) = norms(nn.RNN(12, 6, batch_first=True))
    assert found[0] / found[-1] < 1e-2


def test_each_direction_is_followed_from_its_own_end() -> None:
    """Read backwards, the last step is the image's first; where the loss takes the forward end only, the backward
    direction's end gets nothing."""
    reader = nn.GRU(12, 6, batch_first=True, bidirectional=True)
    both, end = norms(reader, last=False), norms(reader, last=True)
    assert [len(way) for way in both] == [10, 10]
    for way in both:
        assert 0 < way[0] < way[-1]
    assert end[0][-1] > 0 and end[1][-1] == 0


def test_watching_changes_no_weight_and_no_random_number() -> None:
    """Weights, gradients and torch's generator are what they were, and dropout is off."""
    net = nn.Sequential(Bands(2), nn.Dropout(0.5), Recurrent(nn.LSTM(3 * 2 * 8, 5, batch_first=True)), nn.Linear(5, 3))
    images, targets = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8), torch.eye(3)[torch.arange(40) % 3]
    net(torch.randn(4, 3, 8, 8)).sum().backward()
    held = [(p.clone(), p.grad.clone()) for p in net.parameters()], torch.get_rng_state()
    first, second = (
        gradient_stats(net.train(), images, targets, 0, 5),
        gradient_stats(net.train(), images, targets, 0, 5),
    )
    assert first == second and len(first["steps"]["2.reader"][0]) == 4 and len(first["layers"]) == 3
    assert torch.equal(torch.get_rng_state(), held[1])
    assert all(
        torch.equal(p, q) and torch.equal(p.grad, g) for p, (q, g) in zip(net.parameters(), held[0], strict=True)
    )
    assert not any(module._forward_hooks for module in net.modules())


def test_the_way_back_over_the_steps_is_looked_at_in_some_epochs_only() -> None:
    """In the first, the last and about ten in all, as it costs more than a training step; the layers in each."""
    net = nn.Sequential(Bands(2), Recurrent(nn.LSTM(3 * 2 * 8, 5, batch_first=True)), nn.Linear(5, 3))
    images, targets = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.eye(3)[[0, 1, 2, 0]]
    found = [gradient_stats(net, images, targets, epoch, 104) for epoch in range(104)]
    followed = [epoch for epoch, line in enumerate(found) if "steps" in line]
    assert followed == [*range(0, 104, 10), 103] and all("layers" in line for line in found)


def test_an_interrupted_trainings_record_is_that_of_one_go(store: Store, tmp_path: Path) -> None:
    """gradients.jsonl has one line an epoch, and the norms of a training that nobody interrupted."""
    for name, steps in (("whole", []), ("parts", [4, 5])):
        (tmp_path / name).mkdir()
        for count in steps:
            with pytest.raises(Interrupted):
                fit("small", small(epochs=5), store, tmp_path / name, device=CPU, stop=After(count))
        fit("small", small(epochs=5), store, tmp_path / name, device=CPU)
    whole, parts = lines(tmp_path / "whole"), lines(tmp_path / "parts")
    assert [line["epoch"] for line in whole] == [line["epoch"] for line in parts] == [1, 2, 3, 4, 5]
    assert [line["layers"] for line in whole] == [line["layers"] for line in parts]
    assert all(len(line["layers"]) == 3 and min(line["layers"].values()) > 0 for line in whole)
    assert all(line["steps"] == {} for line in whole)
