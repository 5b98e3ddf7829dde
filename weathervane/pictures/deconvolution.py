"""What in an image made a unit of a convolutional network fire: a deconvolutional network, by the backward pass.

Zeiler & Fergus 2013, Visualizing and Understanding Convolutional Networks (arXiv 1311.2901). A unit's activation is sent
back to the image, all others being 0: through the transpose of each convolution, through each max-pooling to the place
of the maximum, and through each activation by rectifying what comes back (instead of letting it pass where the unit was
on, which is what a gradient does). What their networks did not have goes back by its own derivative: normalisation
scales, a mean spreads evenly, and at the end of a residual block (rectified as any activation) the signal takes body and
shortcut, and the two are added where the block begins.

Legend: N = images, C = channels, S = the network's image size, H, W = height, width of a map of features.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ACTIVATIONS = {"relu", "relu_", "relu6", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish", "mish"}
PROBES = 32  # images of noise that find what a unit sees


class Rectified(TorchFunctionMode):
    """While it is on, activations on maps of features are rectified on the way back; `maps` are what came out of them.

    It meets activations wherever they are called: in modules as well as in plain functions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []  # float32 [N, C, H, W], in the order of the computation

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """A call of a function of torch."""
        if getattr(func, "__name__", "") not in ACTIVATIONS or args[0].ndim != 4:
            return func(*args, **(kwargs or {}))
        out: Tensor = _Activation.apply(args[0], lambda x: func(x.clone(), *args[1:], **(kwargs or {})))
        self.maps.append(out)
        return out


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x)

    @staticmethod
    def backward(_: Any, signal: Tensor) -> tuple[Tensor, None]:
        return signal.clamp(min=0), None


def feature_maps(net: nn.Module, images: Tensor) -> list[Tensor]:
    """What comes out of each activation of a convolutional part, float32 [N, C, H, W] each; the first layer's first.

    Args:
        images: normalised, float32 [N, 3, S, S].
    """
    with Rectified() as mode:
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


def sight(net: nn.Module, size: int, level: int) -> tuple[Tensor, int]:
    """What the unit in the middle of a map of features can see: the corner, int64 [row, column], and side of a square.

    Found by what comes back from it when it sees noise.

    Args:
        size: S.
        level: which of the `feature_maps`.
    """
    device = next(net.parameters()).device
    noise = torch.randn(PROBES, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    found = feature_maps(net, noise)[level]
    number = torch.arange(PROBES)
    own = found[number, number % found.shape[1], found.shape[2] // 2, found.shape[3] // 2]
    (back,) = torch.autograd.grad(own.sum(), noise)
    reached = (back != 0).any(0).any(0).nonzero()  # [places, 2]
    first, last = reached.amin(0), reached.amax(0)
    return first, int((last - first).max()) + 1
