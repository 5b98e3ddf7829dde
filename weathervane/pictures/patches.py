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

from weathervane.device import normalise, resident, to_float
from weathervane.model import Model, eval_batch_size
from weathervane.pictures.deconvolution import deconvolved, feature_maps, guided, middle
from weathervane.pictures.style import colours, save
from weathervane.pictures.tiles import grid, signed
from weathervane.store import Store

UNITS, BEST, ACROSS = 8, 9, 3  # units in a picture, patches of each, and patches in a row
IMAGES = 512  # that are looked through


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
    found = patches(model.net, resident(pixels, size, model.device), labels)
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
        images: uint8 [N, 3, S, S].
        labels: str [N].
    """
    size = images.shape[-1]
    few = max(1, eval_batch_size(net, size) // 4)  # because all maps of a batch are kept
    layer = middle(net, size)
    if layer is None:
        return None
    level, corner, side = layer
    with torch.no_grad():
        found = [peaks(feature_maps(net, normalise(to_float(block)))[level]) for block in images.split(few)]
    values, places = map(torch.cat, zip(*found, strict=True))
    units = telling(values, labels)
    best = values[:, units].argsort(dim=0, descending=True, stable=True)[:BEST].T
    channels = torch.tensor(units, device=images.device)[:, None].expand_as(best)
    corners = (corner + places[best, channels].cpu() * size).round().long().clamp(0, size - side)
    shown = zip(best.flatten().split(few), channels.flatten().split(few), strict=True)
    caused = torch.cat([deconvolved(net, normalise(to_float(images[some])), level, own) for some, own in shown])
    return Patches(units, best.cpu(), corners, side, caused.unflatten(0, best.shape).cpu())


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


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where in its map each unit fires most, and how much.

    Args:
        maps: float32 [N, C, H, W].

    Returns:
        Activations, float32 [N, C], and their places, float32 [N, C, 2]: rows and columns from the middle, as a share
        of the map.
    """
    high, wide = maps.shape[2:]
    values, place = maps.flatten(2).max(2)
    return values, torch.stack([(place // wide - high // 2) / high, (place % wide - wide // 2) / wide], 2)


def windows(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """[N, S, S, 3] to [N, side, side, 3]: of each image, the square of which a corner is given.

    Corner and side were rounded, so that a square may begin a pixel too far.
    """
    within = corners.clip(max=images.shape[1] - side)
    return np.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(images, within, strict=True)])
