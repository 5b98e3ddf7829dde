"""What the units of the first layer look for: their weights, as images.

Legend: U = units, S = the network's image size, H, W = height, width of what a unit sees.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weathervane.pictures.style import save
from weathervane.pictures.tiles import enlarged, grid, signed

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST = 48  # units in a picture
PIXELS = 900  # about the width of the picture
WIDE = 1.8  # width of the picture, in its height


def filters_picture(net: "nn.Module", size: int, title: str, path: Path) -> None:
    """The filters of the strongest units of the first layer, the strongest first."""
    from matplotlib.figure import Figure

    filters, units = first_filters(net, size)
    n, _, height, width = filters.shape
    columns = min(n, math.ceil((WIDE * n * height / width) ** 0.5))
    tiles = enlarged(signed(filters.permute(0, 2, 3, 1).numpy()), PIXELS // columns)
    whole = grid(tiles, columns, (6, 6))
    figure = Figure(figsize=(8.2, 0.4 + 8.2 * whole.shape[0] / whole.shape[1]), layout="constrained")
    axes = figure.subplots()
    axes.imshow(whole, interpolation="nearest")
    axes.set_axis_off()
    how_many = f"{n} strongest of {units}" if n < units else f"all {n}"
    seen = f"{width}×{height} pixels"
    axes.set_title(f"{title}: filters of the first layer, {how_many}, {seen} each; grey is 0", fontsize=10, loc="left")
    save(figure, path)


def first_filters(net: "nn.Module", size: int) -> tuple["Tensor", int]:
    """Filters float32 [U, 3, H, W] of the units with the largest weights, and how many units there are.

    The first layer is the first one that is a convolution, fully connected or recurrent. A filter is the gradient of
    what the unit sums up with regard to an image, cut to what the unit sees: exactly its weights, laid out as they meet
    the image, whatever pools it, flattens it or cuts it into steps before. Of a layer that is applied at many places,
    in the middle. The units of a recurrent layer are those of its cells' gates.
    """
    import torch
    from torch import nn

    layer = next(module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.RNNBase))
    weight = layer.weight_ih_l0 if isinstance(layer, nn.RNNBase) else layer.weight
    chosen = weight.detach().flatten(1).norm(dim=1).argsort(descending=True)[:MOST]
    images = torch.zeros(len(chosen), 3, size, size, requires_grad=True)
    met: list[tuple[Tensor, Any]] = []

    def keep(_: nn.Module, given: "tuple[Tensor, ...]", result: Any) -> None:
        # A copy, as a ReLU after it may overwrite it in place.
        met.append((given[0], result.clone() if isinstance(layer, nn.Conv2d) else result))

    handle = layer.register_forward_hook(keep)
    net.eval()(images)
    handle.remove()
    given, result = met[0]
    if isinstance(layer, nn.Conv2d):  # [U, channels, H', W']
        sums = result[torch.arange(len(chosen)), chosen, result.shape[2] // 2, result.shape[3] // 2]
    else:  # [U, D], or [U, T, D]
        sums = (given[:, given.shape[1] // 2] if given.ndim == 3 else given) * weight[chosen]
    (filters,) = torch.autograd.grad(sums.sum(), images)
    return cut(filters), len(weight)


def cut(images: "Tensor") -> "Tensor":
    """[N, 3, S, S] to the smallest rectangle outside of which all of them are 0."""
    seen = images.abs().sum((0, 1)) > 0
    if not seen.any():
        return images
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    return images[:, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
