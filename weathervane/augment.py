"""Random changes of a training batch, on the device that trains; nothing augmented is ever stored.

Legend: N = images, S = size, K = classes, B = batches, R = rows of chances. Images are float32 [N, 3, S, S] in 0-1;
`affine` may make S smaller. Nothing is drawn here while images change: what differs from image to image has been drawn
on their device (`chances`), what holds for a whole batch on the host (`blends`), so that nothing waits for the device.
"""

import math

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from weathervane.device import to_device_float
from weathervane.variant import Augment

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
AFFINE, COLOUR, ERASE = 6, 3, 5  # how many chances each takes of an image


def chances(steps: int, batch: int, policy: Augment, generator: Generator) -> Tensor:
    """What `augment` leaves to chance in so many batches: float32 [steps, R, batch] in 0-1, where the generator is."""
    rows = AFFINE + COLOUR + (ERASE if policy.erase else 0)
    return torch.rand(steps, rows, batch, device=generator.device, generator=generator)


def augment(images: Tensor, policy: Augment, chances: Tensor) -> Tensor:
    """Everything that happens to one image by itself: geometry, colour, erasing; `chances` are float32 [R, N]."""
    of_affine, of_colour, of_erase = chances.tensor_split([AFFINE, AFFINE + COLOUR])
    images = colour_(affine(images, policy, of_affine), policy, of_colour)
    return erase_(images, policy.erase, of_erase) if policy.erase else images


def affine(images: Tensor, policy: Augment, chances: Tensor) -> Tensor:
    """Crop, aspect, rotation and flip as one bilinear resample to `policy.scale` * S pixels; edges are mirrored.

    The crop is that of Szegedy et al. 2014 (arXiv 1409.4842): an area share, an aspect ratio, a place. Cropping
    magnifies: at scale 1 a network trains on larger and more blurred things than it is tested on, at the root of the
    mean area share on things of the same size, for a part of the work (Touvron et al. 2019, arXiv 1906.06423).
    """
    area, ratio, angle, across, down, mirror = chances
    area = policy.crop[0] + area * (policy.crop[1] - policy.crop[0])
    stretch = torch.exp((2 * ratio - 1) * math.log(policy.ratio) / 2)
    width = (area.sqrt() * stretch).clamp(max=1)
    height = (area.sqrt() / stretch).clamp(max=1)
    angle = (2 * angle - 1) * math.radians(policy.rotate)
    sign = torch.where(mirror < 0.5, -1.0, 1.0) if policy.flip else torch.ones_like(mirror)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([sign * width * cos, -height * sin, (2 * across - 1) * (1 - width)], 1),
            torch.stack([sign * width * sin, height * cos, (2 * down - 1) * (1 - height)], 1),
        ],
        1,
    )
    size = round(policy.scale * images.shape[-1])
    return F.grid_sample(images, sampled_at(theta, size), "bilinear", "reflection", align_corners=False)


def sampled_at(theta: Tensor, size: int) -> Tensor:
    """Where each pixel comes from: float32 [N, 2, 3] to [N, size, size, 2], both -1 to 1 from edge to edge.

    `F.affine_grid` to the last bit, in a twentieth of the time on a CPU: it multiplies matrices of three columns.
    """
    place = torch.linspace(-1, 1, size, device=theta.device) * (size - 1) / size
    across, down = theta[:, :, 0, None, None] * place, theta[:, :, 1, None, None] * place[:, None]
    return (across + down).add_(theta[:, :, 2, None, None]).permute(0, 2, 3, 1)


def colour_(images: Tensor, policy: Augment, chances: Tensor) -> Tensor:
    """Brightness, then contrast about the image's mean grey, then saturation about each pixel's grey; in place.

    Together they give a pixel a share of itself, of its grey and of that mean: the images are gone through once, not
    once for each operation.
    """
    drawn = 2 * chances[:, :, None, None, None] - 1
    bright, hard = 1 + drawn[0] * policy.brightness, 1 + drawn[1] * policy.contrast
    vivid, both = 1 + drawn[2] * policy.saturation, bright * hard
    grey = images[:, :1] * GREY[0]
    for channel in (1, 2):
        grey.add_(images[:, channel, None], alpha=GREY[channel])
    mean = grey.mean((2, 3), keepdim=True)
    rest = grey.mul_(both * (1 - vivid)).add_(bright * (1 - hard) * mean)
    return torch.addcmul(rest, images, both * vivid, out=images).clamp_(0, 1)


def erase_(images: Tensor, share: float, chances: Tensor) -> Tensor:
    """A `share` of the images lose a rectangle of 2-25 % of the area to grey, but for what lies beyond the edges (after
    Zhong et al. 2017, arXiv 1708.04896); in place."""
    size = images.shape[-1]
    chosen, area, ratio, across, down = chances
    side = (0.02 + 0.23 * area).sqrt() * size
    stretch = torch.exp((2 * ratio - 1) * math.log(2) / 2)
    side = torch.where(chosen < share, side, 0)
    inside = _rectangle(size, side * stretch, side / stretch, across * size, down * size)
    return images.masked_fill_(inside, 0.5)


def blends(steps: int, policy: Augment, rng: np.random.Generator) -> np.ndarray:
    """What `mix` leaves to chance in so many batches, float64 [steps, 3] in 0-1: how much of itself an image keeps, and
    where the middle of the other's rectangle lies (NaN where whole images are blended). All is NaN without blending.
    """
    found = np.full((steps, 3), np.nan)
    for row in found if policy.mixup or policy.cutmix else ():
        cut = policy.cutmix > 0 and (policy.mixup == 0 or rng.random() < 0.5)
        alpha = policy.cutmix if cut else policy.mixup
        row[0] = rng.beta(alpha, alpha)
        if cut:
            row[1:] = rng.random(2)
    return found


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
    out, share = torch.empty_like(batches), to_device_float(kept, batches.device)
    torch.lerp(batches[:, :-1], batches[:, 1:], share, out=out[:, 1:])
    torch.lerp(batches[:, -1:], batches[:, :1], share, out=out[:, :1])
    return out


def _rectangle(size: int, width: Tensor, height: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """bool [N, 1, S, S]: pixels within width x height of the centre (x, y)."""
    place = torch.arange(size, device=x.device) + 0.5
    across = (place[None] - x[:, None]).abs() < width[:, None] / 2
    down = (place[None] - y[:, None]).abs() < height[:, None] / 2
    return (down[:, :, None] & across[:, None, :])[:, None]
