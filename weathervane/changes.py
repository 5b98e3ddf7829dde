"""What becomes of each image of an epoch: left to chance, and reckoned, before the first of them changes.

Legend: N = images, R = rows of chances, C = columns of changes. What differs from image to image is drawn on their
device, what holds for a whole batch on the host, so that nothing waits for the device. Chances are in 0-1.
"""

import math

import numpy as np
import torch
from torch import Generator, Tensor

from weathervane.variant import Augment

AFFINE, COLOUR, ERASE = 6, 3, 5  # how many chances each takes of an image
PLACES, SHADES = 6, 3  # how many columns tell where an image's pixels come from, and how its colours change


def chances(steps: int, batch: int, policy: Augment, generator: Generator) -> Tensor:
    """What the images of so many batches leave to chance: float32 [steps, R, batch], where the generator is."""
    rows = AFFINE + COLOUR + (ERASE if policy.erase else 0)
    return torch.rand(steps, rows, batch, device=generator.device, generator=generator)


def changes(chances: Tensor, policy: Augment) -> Tensor:
    """What `augment` does to each image: float32 [..., R, N] to [..., N, C].

    Columns: an affine map of places as two rows of three; what a pixel has of itself, of its grey and of its image's
    mean grey; with `policy.erase` half of a rectangle's width and height, and its middle. Places are -1 to 1 from edge
    to edge.
    """
    affine, colour, erase = chances.tensor_split([AFFINE, AFFINE + COLOUR], -2)
    columns = [*places(affine, policy), *shades(colour, policy), *(rectangles(erase, policy) if policy.erase else ())]
    return torch.stack(columns, -1)


def places(chances: Tensor, policy: Augment) -> list[Tensor]:
    """Crop, aspect, rotation and flip as one affine map.

    The crop is that of Szegedy et al. 2014 (arXiv 1409.4842): an area share, an aspect ratio, a place. Cropping
    magnifies: at scale 1 a network trains on larger and more blurred things than it is tested on, at the root of the
    mean area share on things of the same size, for a part of the work (Touvron et al. 2019, arXiv 1906.06423).
    """
    area, ratio, angle, across, down, mirror = chances.unbind(-2)
    area = policy.crop[0] + area * (policy.crop[1] - policy.crop[0])
    stretch = torch.exp((2 * ratio - 1) * math.log(policy.ratio) / 2)
    width = (area.sqrt() * stretch).clamp(max=1)
    height = (area.sqrt() / stretch).clamp(max=1)
    angle = (2 * angle - 1) * math.radians(policy.rotate)
    sign = torch.where(mirror < 0.5, -1.0, 1.0) if policy.flip else torch.ones_like(mirror)
    cos, sin = angle.cos(), angle.sin()
    return [
        *(sign * width * cos, -height * sin, (2 * across - 1) * (1 - width)),
        *(sign * width * sin, height * cos, (2 * down - 1) * (1 - height)),
    ]


def shades(chances: Tensor, policy: Augment) -> list[Tensor]:
    """Brightness, then contrast about the image's mean grey, then saturation about each pixel's grey: three shares."""
    bright, hard, vivid = (2 * chances - 1).unbind(-2)
    bright, hard, vivid = 1 + bright * policy.brightness, 1 + hard * policy.contrast, 1 + vivid * policy.saturation
    both = bright * hard
    return [both * vivid, both * (1 - vivid), bright * (1 - hard)]


def rectangles(chances: Tensor, policy: Augment) -> list[Tensor]:
    """`policy.erase` of the images lose a rectangle of 2-25 % of the area, but for what lies beyond the edges (after
    Zhong et al. 2017, arXiv 1708.04896); the others one without width."""
    chosen, area, ratio, across, down = chances.unbind(-2)
    half = torch.where(chosen < policy.erase, (0.02 + 0.23 * area).sqrt(), 0)  # of a side, which is 2 long
    stretch = torch.exp((2 * ratio - 1) * math.log(2) / 2)
    return [half * stretch, half / stretch, 2 * across - 1, 2 * down - 1]


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
