"""What makes units of a convolutional layer fire: the nine strongest patches of each, and what in them did it.

Zeiler & Fergus 2013 (arXiv 1311.2901), figure 2. Legend: N = images, C = channels, K = classes, S = the network's image
size.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.device import normalise, resident, unit
from weathervane.model import Model
from weathervane.pictures.deconvolution import deconvolved, feature_maps, sight
from weathervane.pictures.style import colours, save
from weathervane.pictures.tiles import grid, signed
from weathervane.store import Store

UNITS, BEST = 8, 9  # in a picture, and patches of each
FINEST = 8  # the map of features that is looked at has this many places a side, or little more
IMAGES = 512  # that are looked through


def patches_picture(model: Model, store: Store, title: str, path: Path) -> bool:
    """Units of a middle layer, each with its nine strongest patches of test images, at their stored size, and beside
    them what in each the unit fired at.

    False, and no picture, for a network without maps of features.
    """
    from matplotlib.figure import Figure

    rows = store.part("test")
    rows = rows[:: -(-len(rows) // IMAGES)]
    pixels, size, classes = store.pixels(rows), model.spec.size, model.spec.classes
    images = normalise(unit(resident(pixels, size, model.device)))
    level = middle(model.net, images[:1])
    if level is None:
        return False
    maps = activations(model.net, images, level)
    labels = store.manifest["label"][rows]
    units = telling(maps.flatten(2).amax(2), labels)
    corner, side = sight(model.net, size, level)
    colour = colours(classes)
    figure = Figure(figsize=(8.2, 0.4 + 2.3 * -(-len(units) // 2)), layout="constrained")
    for axes, number in zip(figure.subplots(-(-len(units) // 2), 2, squeeze=False).flat, units, strict=False):
        best, places = strongest(maps, number)
        back = deconvolved(model.net, images[best], level, torch.full_like(best, number))
        # Where the unit looks, but inside of the image.
        corners = (corner + (places - maps.shape[2] // 2) * (size / maps.shape[2])).round().clamp(0, size - side)
        scale = store.size / size
        cut = (corners.numpy() * scale).round().astype(int), round(side * scale)
        caused = F.interpolate(back, (store.size, store.size), mode="bilinear").permute(0, 2, 3, 1).cpu().numpy()
        tiles = windows(pixels[best.cpu().numpy()], *cut) / 255, signed(windows(caused, *cut))
        both = [grid(some, 3) for some in tiles]
        axes.imshow(np.concatenate([both[0], np.ones((len(both[0]), side // 4, 3)), both[1]], 1))
        axes.set_axis_off()
        said = Counter(labels[best.cpu().numpy()].tolist()).most_common(1)[0]
        axes.set_title(f"unit {number}: {said[1]} of {len(best)} are {said[0]}", fontsize=9, color=colour[said[0]])
    heading = f"{title}: units of a middle layer; their {BEST} strongest patches of {len(rows)} test images, "
    figure.suptitle(f"{heading}and what in these they fired at", fontsize=10)
    save(figure, path)
    return True


def middle(net: nn.Module, image: Tensor) -> int | None:
    """The last of the feature maps that has FINEST places a side or more; None where there is none."""
    with torch.no_grad():
        fine = [level for level, found in enumerate(feature_maps(net, image)) if found.shape[2] >= FINEST]
    return fine[-1] if fine else None


@torch.no_grad()
def activations(net: nn.Module, images: Tensor, level: int) -> Tensor:
    """One of the feature maps, float32 [N, C, H, W], of normalised images [N, 3, S, S]."""
    return torch.cat([feature_maps(net, block)[level] for block in images.split(64)])


def telling(values: Tensor, labels: np.ndarray) -> list[int]:
    """The units that tell a class from the others best, a class after the other in turn, UNITS of them.

    Args:
        values: the largest activation of each unit in each image, float32 [N, C].
        labels: str [N].
    """
    ranked = []
    for label in np.unique(labels):
        own = torch.from_numpy(labels == label)
        apart = (values[own].mean(0) - values[~own].mean(0)) / values.std(0).clamp(min=1e-6)
        ranked.append(apart.argsort(descending=True).tolist())
    return list(dict.fromkeys(number for turn in zip(*ranked, strict=True) for number in turn))[:UNITS]


def strongest(maps: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The BEST images in which unit `number` fires most, the strongest first, and where in the map it does.

    Args:
        maps: float32 [N, C, H, W].

    Returns:
        Images int64 [BEST] and places int64 [BEST, 2], row and column.
    """
    most, place = maps[:, number].flatten(1).max(1)
    images = most.argsort(descending=True, stable=True)[:BEST]
    return images, torch.stack([place[images] // maps.shape[3], place[images] % maps.shape[3]], 1)


def windows(images: np.ndarray, corners: np.ndarray, side: int) -> np.ndarray:
    """[N, H, W, 3] to [N, side, side, 3]: of each image, the square of which a corner is given."""
    return np.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(images, corners, strict=True)])
