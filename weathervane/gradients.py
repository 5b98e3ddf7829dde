"""How strongly the loss pulls on each layer, and how far back along a sequence: what fades in a deep or a long network.

Legend: N = images, T = steps, D = features, H = units of a recurrent layer.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.device import normalise, to_float

GRADIENTS = "gradients.jsonl"  # beside metrics.jsonl
WATCHED = 16  # training images at most, always the same ones, whose gradient is followed back over the steps
FOLLOWED = 10  # epochs of a training, about, in which it is: as dear as several steps of training

CellState = tuple[Tensor, ...]  # float32 [N, H] each: h, or h and c of an LSTM
CELLS = {
    "LSTM": torch.lstm_cell,
    "GRU": torch.gru_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
}


def gradient_stats(net: nn.Module, images: Tensor, targets: Tensor, epoch: int, epochs: int) -> dict[str, Any]:
    """What a line of gradients.jsonl says of an epoch that has just ended: `layers` and, in some epochs, `steps`.

    Args:
        images: some of the training part, uint8 [N, 3, S, S].
        targets: float32 [N, K].
        epoch: the one that has ended, from 0, of `epochs`.
    """
    found: dict[str, Any] = {"layers": layer_norms(net)}
    if epoch % max(1, epochs // FOLLOWED) == 0 or epoch + 1 == epochs:
        found["steps"] = step_norms(net, normalise(to_float(images)), targets)
    return found


def layer_norms(net: nn.Module) -> dict[str, float]:
    """Norm of the gradient of each weight (not of biases and normalisation), by its name, the first layer first.

    Of the last backward pass, which is still there; weights without a gradient are left out.
    """
    held = {name: p.grad for name, p in net.named_parameters() if p.ndim >= 2 and p.grad is not None}
    norms = torch.stack(torch._foreach_norm(list(held.values()))).tolist() if held else []
    return {name: norm for name, norm in zip(held, norms, strict=True) if math.isfinite(norm)}


def step_norms(net: nn.Module, images: Tensor, targets: Tensor) -> dict[str, list[list[float]]]:
    """How much of the loss's gradient at the end of a sequence gets back to each step before it.

    For each recurrent layer (of a stack of them, the top one), by its name: for each direction in which it reads, the
    norm of the gradient with regard to its state after each step, in the order of reading, mean over the images. The
    gradient is the one that the loss has at the last step, followed back through the recurrence alone; the state of an
    LSTM, as one step hands it on to the next, is h and c together. The network is left in eval mode.

    Args:
        images: normalised, float32 [N, 3, S, S].
        targets: float32 [N, K].
    """
    readers = {name: module for name, module in net.named_modules() if isinstance(module, nn.RNNBase)}
    if not readers:
        return {}
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, given: tuple[Tensor, ...], result: tuple[Tensor, ...]) -> None:
        seen[module] = given[0].detach(), result[0]

    handles = [reader.register_forward_hook(keep) for reader in readers.values()]
    net.eval()
    try:
        with torch.backends.cudnn.flags(enabled=False):  # its cells have no backward pass in eval mode
            loss = F.cross_entropy(net(images).float(), targets)
            arriving = torch.autograd.grad(loss, [seen[reader][1] for reader in readers.values()])
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: _followed_back(reader, seen[reader][0], gradient)
        for (name, reader), gradient in zip(readers.items(), arriving, strict=True)
    }


def unrolled(reader: nn.RNNBase, x: Tensor) -> list[list[CellState]]:
    """The states of a recurrent layer after each step, which torch's own kernels do not show: [directions][T].

    Of a stack of layers, the top one's; without the dropout between them.

    Args:
        x: float32 [N, T, D].
    """
    ways = 2 if reader.bidirectional else 1
    for layer in range(reader.num_layers):
        states = [_walk(reader, x.flip(1) if way else x, reader.all_weights[layer * ways + way]) for way in range(ways)]
        outputs = [torch.stack([state[0] for state in one], 1) for one in states]
        x = torch.cat([output.flip(1) if way else output for way, output in enumerate(outputs)], -1)
    return states


def _walk(reader: nn.RNNBase, x: Tensor, weights: list[Tensor]) -> list[CellState]:
    cell, lstm = CELLS[reader.mode], reader.mode == "LSTM"
    zero = x.new_zeros(len(x), reader.hidden_size)
    state: CellState = (zero, zero) if lstm else (zero,)
    states = []
    for step in x.unbind(1):
        after = cell(step, state if lstm else state[0], *weights)
        # Copies, so that a gradient with regard to h does not count in that of the c that h is made from.
        state = tuple(part.clone() for part in (after if lstm else (after,)))
        states.append(state)
    return states


def _followed_back(reader: nn.RNNBase, x: Tensor, arriving: Tensor) -> list[list[float]]:
    """Norms [directions][T], from the gradient [N, T, directions * H] that arrives at the layer's outputs."""
    found = []
    for way, states in enumerate(unrolled(reader, x)):
        end = arriving[:, 0 if way else -1].unflatten(-1, (-1, reader.hidden_size))[:, way]
        flat = [part for state in states for part in state]
        back = torch.autograd.grad(states[-1][0], flat, end, allow_unused=True, materialize_grads=True)
        wide = torch.stack(back, 1).unflatten(1, (len(states), -1))  # [N, T, 1 or 2, H]
        found.append(wide.flatten(2).norm(dim=-1).mean(0).tolist())
    return found
