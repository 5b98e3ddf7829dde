"""What makes units of a convolutional layer fire: the nine strongest patches of each, and what in them did it.

Zeiler & Fergus 2013 (arXiv 1311.2901), figure 2. Legend: N = images, C = channels, S = the network's image size,
U = units that are shown, B = patches of each, H, W = height, width of a map of features.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.device import normalise, resident, unit
from weathervane.model import Model
from weathervane.pictures.deconvolution import deconvolved, feature_maps, guided, middle
from weathervane.pictures.style import colours, save
from weathervane.pictures.tiles import grid, signed
from weathervane.store import Store

UNITS, BEST, ACROSS = 8, 9, 3  # units in a picture, patches of each, and patches in a row
IMAGES = 512  # that are looked through
BLOCK = 64  # of them in the network at a time


@dataclass(frozen=True)
class Patches:
    """What a few units of a middle layer fire at, the strongest first."""

    units: list[int]  # U channels
    images: Tensor  # int64 [U, B], places in the list of images
    corners: Tensor  # int64 [U, B, 2], row and column of the square that the unit sees, or of one inside of the image
    side: int  # of the square, in pixels of the network
    caused: Tensor  # float32 [U, B, 3, S, S], the activation sent back to the image


def patches_picture(model: Model, store: Store, title: str, path: Path) -> None:
    """Patches of test images, at their stored size, and beside them what in each the unit fired at.

    No picture of a network without maps of features.
    """
    from matplotlib.figure import Figure

    rows = store.part("test")
    rows = rows[:: -(-len(rows) // IMAGES)]
    pixels, labels, size = store.pixels(rows), store.manifest["label"][rows], model.spec.size
    found = patches(model.net, normalise(unit(resident(pixels, size, model.device))), labels)
    if found is None:
        return
    scale, colour = store.size / size, colours(model.spec.classes)
    lines = -(-len(found.units) // 2)
    figure = Figure(figsize=(8.2, 0.4 + 2.3 * lines), layout="constrained")
    for number, axes in enumerate(figure.subplots(lines, 2, squeeze=False).flat):
        axes.set_axis_off()
        if number == len(found.units):
            break
        own, corners = found.images[number].numpy(), (found.corners[number].numpy() * scale).round().astype(int)
        caused = F.interpolate(found.caused[number], (store.size, store.size), mode="bilinear").permute(0, 2, 3, 1)
        seen, said = (windows(all_of, corners, round(found.side * scale)) for all_of in (pixels[own], caused.numpy()))
        left, right = grid(seen / 255, ACROSS), grid(signed(said), ACROSS)
        axes.imshow(np.concatenate([left, np.ones((len(left), left.shape[1] // 12, 3)), right], 1))
        label, often = Counter(labels[own].tolist()).most_common(1)[0]
        told = f"unit {found.units[number]}: {often} of {len(own)} are {label}"
        axes.set_title(told, fontsize=9, color=colour[label])
    how = "guided backpropagation" if guided(model.net) else "deconvolution"
    heading = f"{title}: units of a middle layer, which see {found.side}×{found.side} of {size}×{size} pixels\n"
    heading += f"left: the {found.images.shape[1]} test images of {len(rows)} in which they fire most; "
    figure.suptitle(f"{heading}right: at what ({how})", fontsize=10)
    save(figure, path)


def patches(net: nn.Module, images: Tensor, labels: np.ndarray) -> Patches | None:
    """What units of the middle layer fire at; None for a network without maps of features.

    Args:
        images: normalised, float32 [N, 3, S, S].
        labels: str [N].
    """
    size = images.shape[-1]
    layer = middle(net, size)
    if layer is None:
        return None
    level, corner, side = layer
    with torch.no_grad():
        maps = torch.cat([feature_maps(net, block)[level] for block in images.split(BLOCK)])
    units = telling(maps.flatten(2).amax(2), labels)
    best, places = map(torch.stack, zip(*(strongest(maps, number) for number in units), strict=True))
    channels = torch.tensor(units, device=images.device).repeat_interleave(best.shape[1])
    caused = deconvolved(net, images[best.flatten()], level, channels).unflatten(0, best.shape)
    corners = (corner + (places - maps.shape[2] // 2) * (size / maps.shape[2])).round().long().clamp(0, size - side)
    return Patches(units, best.cpu(), corners.cpu(), side, caused.cpu())


def telling(values: Tensor, labels: np.ndarray) -> list[int]:
    """The units that tell a class from the others best, a class after the other in turn, UNITS of them.

    Args:
        values: the largest activation of each unit in each image, float32 [N, C].
        labels: str [N].
    """
    ranked = []
    for label in np.unique(labels):
        own = torch.from_numpy(labels == label).to(values.device)
        apart = (values[own].mean(0) - values[~own].mean(0)) / values.std(0).clamp(min=1e-6)
        ranked.append(apart.argsort(descending=True).tolist())
    return list(dict.fromkeys(number for turn in zip(*ranked, strict=True) for number in turn))[:UNITS]


def strongest(maps: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The BEST images in which unit `number` fires most, the strongest first, and where in the map it does.

    Args:
        maps: float32 [N, C, H, W].

    Returns:
        Images int64 [B] and places int64 [B, 2], row and column.
    """
    most, place = maps[:, number].flatten(1).max(1)
    images = most.argsort(descending=True, stable=True)[:BEST]
    return images, torch.stack([place[images] // maps.shape[3], place[images] % maps.shape[3]], 1)


def windows(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """[N, H, W, 3] to [N, side, side, 3]: of each image, the square of which a corner is given."""
    return np.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(images, corners, strict=True)])
