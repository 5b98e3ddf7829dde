"""Building blocks that families share.

Legend: N = images, C = channels, H, W = height, width, T = steps, D = features.
"""

import torch
from torch import Tensor, nn


def conv_norm(before: int, after: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    """A convolution without bias and its batch normalisation."""
    return [nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(after)]


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, arXiv 1512.03385, and its ResNet-D downsampling).

    The last normalisation starts at zero, so that a block starts as the identity (Goyal et al. 2017,
    arXiv 1706.02677).
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm(before, after, stride), nn.ReLU(), *conv_norm(after, after))
        nn.init.zeros_(self.body[-1].weight)
        pool = [nn.AvgPool2d(2, ceil_mode=True)] if stride == 2 else []
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(*pool, *conv_norm(before, after, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, after, H/stride, W/stride]."""
        return torch.relu(self.body(x) + self.shortcut(x))


class Bands(nn.Module):
    """[N, C, H, W] to [N, T, D]: T = H / rows steps, each of D = C * rows * W features."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        """A view in reading order."""
        n, _, h, _ = x.shape
        return x.permute(0, 2, 1, 3).reshape(n, h // self.rows, -1)


class Recurrent(nn.Module):
    """[N, T, D] to [N, D']: the mean over the steps of a recurrent layer's outputs."""

    def __init__(self, reader: nn.RNNBase) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, x: Tensor) -> Tensor:
        """Only the outputs; the last state is not used."""
        # Under autocast cuDNN's cells compute in float16, whatever it asks for, and nothing here scales gradients.
        with torch.autocast(x.device.type, enabled=False):
            steps, _ = self.reader(x.float())
        return steps.mean(1)
