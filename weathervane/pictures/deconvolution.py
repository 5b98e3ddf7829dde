"""What in an image made a unit of a convolutional network fire: a deconvolutional network, by the backward pass.

Zeiler & Fergus 2013, Visualizing and Understanding Convolutional Networks (arXiv 1311.2901). A unit's activation is
sent back to the image, all others being 0: through the transpose of each convolution, through each max-pooling to the
place of the maximum, and through each activation by rectifying what comes back (instead of letting it pass where the
unit was on, which is what a gradient does). What their networks did not have goes back by its own derivative:
normalisation scales, a mean spreads evenly, and at the end of a residual block (rectified as any activation) the signal
takes body and shortcut, and the two are added where the block begins.

Only the places of the maxima carry anything of the image. A network that makes its maps smaller in other ways, too,
would show nearly the same for every image: there a signal must also find the unit on (guided backpropagation,
Springenberg et al. 2014, arXiv 1412.6806, who made it for such networks).

Legend: N = images, C = channels, S = the network's image size, H, W = height, width of a map of features.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ACTIVATIONS = {"relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "mish"}
PROBES = 16  # images of noise that find what a unit sees


class Rectified(TorchFunctionMode):
    """While it is on, activations on maps of features are rectified on the way back; `maps` are what came out of them.

    It meets activations wherever they are called: in modules as well as in plain functions.
    """

    def __init__(self, guided: bool = False) -> None:
        super().__init__()
        self.guided = guided  # whether a signal must also find the unit on
        self.maps: list[Tensor] = []  # float32 [N, C, H, W], in the order of the computation

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """A call of a function of torch."""
        if getattr(func, "__name__", "") not in ACTIVATIONS or args[0].ndim != 4:
            return func(*args, **(kwargs or {}))
        # On a copy, because some work in place.
        out: Tensor = _Activation.apply(args[0], lambda x: func(x.clone(), *args[1:], **(kwargs or {})), self.guided)
        self.maps.append(out)
        return out


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], guided: bool) -> Tensor:
        out = function(x)
        ctx.on = out > 0 if guided else None  # kept for the way back
        return out

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        back = signal.clamp(min=0)
        return back if ctx.on is None else back * ctx.on, None, None


def guided(net: nn.Module) -> bool:
    """True where max-pooling is not all that makes the maps of features smaller."""
    modules = list(net.modules())
    pools = any(isinstance(module, nn.MaxPool2d) for module in modules)
    return not pools or any(isinstance(module, nn.Conv2d) and max(module.stride) > 1 for module in modules)


def feature_maps(net: nn.Module, images: Tensor) -> list[Tensor]:
    """What comes out of each activation of a convolutional part, float32 [N, C, H, W] each; the first layer's first.

    Args:
        images: normalised, float32 [N, 3, S, S].
    """
    with Rectified(guided(net)) as mode:
        net.eval()(images)
    return mode.maps


def deconvolved(net: nn.Module, images: Tensor, level: int, units: Tensor) -> Tensor:
    """What the largest activation of a unit in each image is due to: float32 [N, 3, S, S], in units of the image.

    Args:
        images: normalised, float32 [N, 3, S, S].
        level: which of the `feature_maps`.
        units: channel for each image, int64 [N].
    """
    images = images.detach().clone().requires_grad_()
    maps = feature_maps(net, images)[level].flatten(2)
    strongest = maps[torch.arange(len(images)), units].max(1).values
    (back,) = torch.autograd.grad(strongest, images, strongest.detach())
    return back


def middle(net: nn.Module, size: int) -> tuple[int, Tensor, int] | None:
    """The last of the feature maps of which a unit sees no more than half of the image, across.

    What a unit sees is found by what comes back from it when the image is noise. None without any such map, or where
    nothing comes back.

    Args:
        size: S.

    Returns:
        Level; corner (row and column, int64 [2]) and side of the square that the unit in the middle of the map sees.
    """
    device = next(net.parameters()).device
    noise = torch.randn(PROBES, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    with Rectified() as mode:
        net.eval()(noise)
    number = torch.arange(PROBES)

    def seen(level: int) -> tuple[Tensor, int]:
        found = mode.maps[level]
        own = found[number, number % found.shape[1], found.shape[2] // 2, found.shape[3] // 2]
        (back,) = torch.autograd.grad(own.sum(), noise, retain_graph=True)
        reached = (back != 0).any(0).any(0).nonzero()  # [places, 2]
        if not len(reached):
            return torch.zeros(2, dtype=torch.int64), 0
        corner, far = reached.amin(0), reached.amax(0)
        return corner, int((far - corner).max()) + 1

    level = bisect_right(range(len(mode.maps)), size / 2, key=lambda level: seen(level)[1]) - 1
    if level < 0:
        return None
    corner, side = seen(level)
    return (level, corner, side) if side else None
