"""The building blocks that families share."""

import pytest
import torch
from torch import nn

from weathervane.layers import Bands, Recurrent, Residual, Shrunk, lstm


def test_bands_read_like_a_page() -> None:
    """Step t holds rows t*rows to (t+1)*rows of all channels and columns, top to bottom, left to right."""
    x = torch.rand(2, 3, 6, 5)
    steps = Bands(2)(x)
    assert steps.shape == (2, 3, 30)
    for n in range(2):
        for t in range(3):
            wanted = [x[n, c, h, w].item() for h in (2 * t, 2 * t + 1) for c in range(3) for w in range(5)]
            assert steps[n, t].tolist() == wanted


@pytest.mark.parametrize("size", [7, 8, 12, 16, 20])
def test_an_image_is_shrunk_by_means(size: int) -> None:
    """Each of 8x8 pixels is the mean of those that it covers, of an image of any size: torch's own, to the last bit."""
    x = torch.rand(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    shrunk = Shrunk(8)(x)
    assert torch.equal(shrunk, nn.AdaptiveAvgPool2d(8)(x))
    assert size % 8 or torch.allclose(
        shrunk, x.unfold(2, size // 8, size // 8).unfold(3, size // 8, size // 8).mean((4, 5))
    )


def test_a_residual_block_starts_as_the_identity() -> None:
    """Before the first step a block of equal shapes passes on what is not negative, untouched."""
    x = torch.randn(4, 8, 6, 6)
    assert torch.equal(Residual(8, 8)(x), x.relu())


def test_patches_come_in_reading_order() -> None:
    """With `columns` a step is a patch, the first row of patches from left to right first; whole rows are bands."""
    x = torch.rand(2, 3, 4, 6)
    steps = Bands(2, 3)(x)
    assert steps.shape == (2, 4, 18)
    for t, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
        patch = x[:, :, top : top + 2, left : left + 3]
        assert torch.equal(steps[:, t], patch.permute(0, 2, 1, 3).flatten(1))
    assert torch.equal(Bands(2, 6)(x), Bands(2)(x))
    assert torch.equal(Bands(1, 1)(x), x.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_a_residual_block_halves_any_size(size: int) -> None:
    """Body and shortcut agree on odd sizes, too."""
    assert Residual(4, 8, stride=2)(torch.randn(2, 4, size, size)).shape == (2, 8, -(-size // 2), -(-size // 2))


def test_recurrent_cells_keep_full_precision() -> None:
    """The mean over all steps' outputs; under autocast, too, the cells compute in float32."""
    reader = nn.LSTM(5, 4, batch_first=True)
    x = torch.randn(2, 7, 5)
    wanted = reader(x)[0].mean(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = Recurrent(reader)(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_width_of_what_is_read_is_known(bidirectional: bool) -> None:
    """`features` is the width of the output: twice the hidden units where the reader reads both ways."""
    read = lstm(5, 4, 2, bidirectional, 0.5)
    assert read(torch.randn(2, 7, 5)).shape == (2, read.features) == (2, 8 if bidirectional else 4)


def test_the_last_step_is_the_state_after_all_of_them() -> None:
    """With `last`, what comes out is Elman's context after the last step, and the first steps still count."""
    reader = nn.RNN(5, 4, batch_first=True)
    x = torch.randn(2, 7, 5)
    found = Recurrent(reader, last=True)(x)
    assert torch.equal(found, reader(x)[1][0])
    x[:, 0] += 1
    assert not torch.equal(Recurrent(reader, last=True)(x), found)
