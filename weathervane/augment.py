"""Random changes of a training batch, on the device that trains; nothing augmented is ever stored.

Legend: N = images, S = size, K = classes, B = batches, C = columns of changes. Images are float32 [N, 3, S, S] in 0-1;
`affine` may make S smaller. Nothing is drawn here: what becomes of each image is known before (changes.py).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weathervane.changes import PLACES, SHADES
from weathervane.device import to_device
from weathervane.variant import Augment

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


def augment(images: Tensor, policy: Augment, changes: Tensor) -> Tensor:
    """Everything that happens to one image by itself: geometry, colour, erasing; `changes` are float32 [N, C]."""
    where, how, gone = changes.tensor_split([PLACES, PLACES + SHADES], 1)
    place = pixel_places(round(policy.scale * images.shape[-1]), images.device)
    images = colour_(affine(images, where, place), how)
    return erase_(images, gone, place) if policy.erase else images


def pixel_places(size: int, device: torch.device) -> Tensor:
    """The middles of a row's pixels, float32 [size], -1 to 1 from edge to edge."""
    return torch.linspace(-1, 1, size, device=device) * (size - 1) / size


def affine(images: Tensor, places: Tensor, place: Tensor) -> Tensor:
    """One bilinear resample to `place`'s number of pixels by the maps float32 [N, 6]; edges are mirrored."""
    at = sampled_at(places.unflatten(1, (2, 3)), place)
    return F.grid_sample(images, at, "bilinear", "reflection", align_corners=False)


def sampled_at(theta: Tensor, place: Tensor) -> Tensor:
    """Where each pixel comes from: float32 [N, 2, 3] to [N, size, size, 2], as `place`.

    `F.affine_grid` to the last bit, in a twentieth of the time on a CPU: it multiplies matrices of three columns.
    """
    across, down, shift = theta[..., None, None].unbind(2)
    return (across * place + down * place[:, None]).add_(shift).permute(0, 2, 3, 1)


def colour_(images: Tensor, shades: Tensor) -> Tensor:
    """Give each pixel the shares float32 [N, 3] of itself, of its grey, and of its image's mean grey; in place.

    So the images are gone through once, not once for brightness, for contrast and for saturation.
    """
    of_itself, of_grey, of_mean = shades[:, :, None, None, None].unbind(1)
    grey = images[:, :1] * GREY[0]
    for channel in (1, 2):
        grey.add_(images[:, channel, None], alpha=GREY[channel])
    mean = grey.mean((2, 3), keepdim=True)
    rest = grey.mul_(of_grey).add_(of_mean * mean)
    return torch.addcmul(rest, images, of_itself, out=images).clamp_(0, 1)


def erase_(images: Tensor, rectangles: Tensor, place: Tensor) -> Tensor:
    """Turn a rectangle of each image grey: half of its sides, and its middle, float32 [N, 4], as `place`; in place."""
    half, middle = rectangles.unflatten(1, (2, 2, 1)).unbind(1)
    columns, rows = ((place - middle).abs() < half).float()[:, :, None].unbind(1)
    gone = (rows.mT * columns)[:, None]
    return images.mul_(1 - gone).add_(gone, alpha=0.5)  # exact, and on a CPU in half of masked_fill_'s time


def mix(images: Tensor, targets: Tensor, policy: Augment, blends: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2017, arXiv 1710.09412) or CutMix (Yun et al. 2019, arXiv 1905.04899) of each batch.

    Args:
        images: float32 [B, N, 3, S, S], B batches.
        targets: float32 [B, N, K], rows that sum to 1.
        policy: of which mixup and cutmix are used.
        blends: float64 [B, 3].

    Returns:
        Both, each batch blended with itself turned round by one place.
    """
    if not (policy.mixup or policy.cutmix):
        return images, targets
    side = images.shape[-1] if policy.cutmix else 1
    kept = np.stack([_kept(side, *blend) for blend in blends])
    images = _blended(images, kept[:, None, None])
    return images, _blended(targets, kept.mean((1, 2))[:, None, None])


def _kept(side: int, keep: float, row: float, column: float) -> np.ndarray:
    """How much of itself an image keeps, in 0-1: float64 [side, side]."""
    if math.isnan(row):
        return np.full((side, side), keep)
    centre, half = side * np.array([row, column]), side * math.sqrt(1 - keep) / 2
    corners = np.rint([centre - half, centre + half]).clip(0, side).astype(int).tolist()
    (top, left), (bottom, right) = corners
    kept = np.ones((side, side))
    kept[top:bottom, left:right] = 0
    return kept


def _blended(batches: Tensor, kept: np.ndarray) -> Tensor:
    share = to_device(torch.from_numpy(kept.astype(np.float32)), batches.device)
    out = torch.empty_like(batches)
    torch.lerp(batches[:, :-1], batches[:, 1:], share, out=out[:, 1:])
    torch.lerp(batches[:, -1:], batches[:, :1], share, out=out[:, :1])
    return out
