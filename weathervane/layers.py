"""Building blocks that families share.

Legend: N = images, C = channels, H, W = height, width, T = steps, D = features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shrunk(nn.AdaptiveAvgPool2d):
    """[N, C, H, W] to [N, C, output_size, output_size], each pixel the mean of those that it covers.

    Half the side is what `ann` and `dnn` ask for, and to the last bit what bilinear sampling gives between four
    pixels, in a third of the time on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Of images of any size."""
        side = self.output_size
        if x.shape[-2:] == (2 * side, 2 * side):
            return F.interpolate(x, side, mode="bilinear", align_corners=False)
        return super().forward(x)


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
        self.body = nn.Sequential(*conv_norm(before, after, stride), nn.ReLU(True), *conv_norm(after, after))
        nn.init.zeros_(self.body[-1].weight)
        pool = [nn.AvgPool2d(2, ceil_mode=True)] if stride == 2 else []
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(*pool, *conv_norm(before, after, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, after, H/stride, W/stride]."""
        return torch.relu_(self.body(x).add_(self.shortcut(x)))


def residual_stages(width: int, stages: int, blocks: int, size: int) -> list[nn.Module]:
    """A 3x3 stem and `stages` of residual blocks, each but the first with twice the channels at half the resolution.

    [N, 3, size, size] to [N, width * 2**(stages - 1), H, W]. From 48 pixels on, the stem halves them.
    """
    layers: list[nn.Module] = [*conv_norm(3, width, stride=2 if size >= 48 else 1), nn.ReLU(True)]
    before = width
    for stage in range(stages):
        after = width * 2**stage
        for block in range(blocks):
            layers.append(Residual(before, after, stride=2 if stage and not block else 1))
            before = after
    return layers


class Bands(nn.Module):
    """[N, C, H, W] to [N, T, D]: bands of rows, or patches `columns` wide where that is not 0.

    T = H / rows * W / columns steps in reading order, each of D = rows * C * columns features.
    """

    def __init__(self, rows: int, columns: int = 0) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor) -> Tensor:
        """Features of a step in the order of its rows, their channels, their columns."""
        n, c, h, w = x.shape
        columns = self.columns or w
        parts = x.reshape(n, c, h // self.rows, self.rows, w // columns, columns)
        return parts.permute(0, 2, 4, 3, 1, 5).reshape(n, h // self.rows * (w // columns), -1)


class Recurrent(nn.Module):
    """[N, T, D] to [N, D']: the mean over the steps of a recurrent layer's outputs, or the output of the last step."""

    def __init__(self, reader: nn.RNNBase, last: bool = False) -> None:
        super().__init__()
        self.reader, self.last = reader, last
        self.features = reader.hidden_size * (2 if reader.bidirectional else 1)  # D'

    def forward(self, x: Tensor) -> Tensor:
        """Only the outputs; cells of LSTMs are not used."""
        # Under autocast cuDNN's cells compute in float16, whatever it asks for, and nothing here scales gradients.
        with torch.autocast(x.device.type, enabled=False):
            steps, _ = self.reader(x.float())
        return steps[:, -1] if self.last else steps.mean(1)


def lstm(features: int, hidden: int, layers: int, bidirectional: bool, dropout: float) -> Recurrent:
    """LSTM cells (Hochreiter & Schmidhuber 1997), with dropout between layers; the mean over steps."""
    between = dropout if layers > 1 else 0.0
    return Recurrent(nn.LSTM(features, hidden, layers, batch_first=True, bidirectional=bidirectional, dropout=between))
