"""Where in a photograph the evidence is: the true class's probability while a grey square covers a part of it.

Zeiler & Fergus 2013 (arXiv 1311.2901), figure 7. Legend: N = images, S = the network's image size, G = PLACES.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from weathervane.device import resident
from weathervane.model import Model, eval_batch_size, logits
from weathervane.pictures.style import colours, save
from weathervane.store import Store
from weathervane.words import brief

if TYPE_CHECKING:
    import pandas as pd

SURE = 0.75  # the answers that are looked at: likely right, but not so sure that nothing could change them
MOST = 6  # images in a picture
PLACES = 11  # of the square's middle, down as well as across
SIDE = 4  # such squares side by side are as wide as the image
GREY = 128
TINT = 0.5  # share of the colour where it lies over a photograph


def occlusion_picture(model: Model, store: Store, rows: np.ndarray, title: str, path: Path) -> None:
    """Photographs, and below each the true class's probability by the place of the square's middle.

    Args:
        rows: row numbers in the store of the photographs.
    """
    from matplotlib.figure import Figure

    labels, pixels = store.manifest["label"][rows], store.pixels(rows)
    images, colour = resident(pixels, model.spec.size, model.device), colours(model.spec.classes)
    figure = Figure(figsize=(8.2, 0.9 + 2 * 8.2 / (len(rows) + 0.5)), layout="constrained")
    above, below = figure.subplots(2, len(rows), squeeze=False)
    room = round(110 / (len(rows) + 0.5)) - 5  # characters above a photograph, beside the figure
    for number, label in enumerate(labels):
        sought = model.spec.classes.index(label)
        left = occluded(model, images[number], sought).cpu().numpy()
        above[number].imshow(pixels[number])
        shown = below[number].imshow(left, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        sure = answer(model, images[number : number + 1], sought).item()
        above[number].set_title(f"{brief(label, room)} {sure:.0%}", fontsize=9, color=colour[label])
        below[number].set_title(f"{left.min():.0%} to {left.max():.0%}", fontsize=9)
    for axes in (*above, *below):
        axes.set_axis_off()
    figure.colorbar(shown, ax=below.tolist(), label="probability of the true class")
    heading = f"{title}: what is left of the true class's probability while a grey square, 1/{SIDE} of the image wide, "
    figure.suptitle(f"{heading}covers a part", fontsize=10)
    save(figure, path)


def examples(table: "pd.DataFrame", store: Store) -> np.ndarray:
    """Test images to be looked at, as row numbers in the store: one of each class, up to MOST of them.

    The one whose true class has a probability next to SURE.
    """
    rows = []
    for label, own in table.groupby("label"):
        rows.append(store.row_of[own["sha256"].iloc[(own[f"p_{label}"] - SURE).abs().to_numpy().argmin()]])
    return np.array(rows[:MOST], np.int64)


def evidence(model: Model, pixels: np.ndarray, number: int) -> tuple[np.ndarray, float, float]:
    """Where in a photograph class `number` is seen: what `occlusion_picture` shows, laid over it.

    Args:
        pixels: uint8 [S', S', 3].
        number: of the class.

    Returns:
        uint8 [S', S', 3], yellow where a square takes most of the probability away and violet where least; the smallest
        and the largest probability that is left.
    """
    from matplotlib import colormaps
    from PIL import Image

    left = occluded(model, resident(pixels[None], model.spec.size, model.device)[0], number).cpu().numpy()
    low, high = float(left.min()), float(left.max())
    lost = Image.fromarray((high - left) / max(high - low, 1e-6)).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)
    tint = colormaps["viridis"](np.asarray(lost).clip(0, 1))[..., :3]
    return ((1 - TINT) * pixels + TINT * 255 * tint).round().astype(np.uint8), low, high


def occluded(model: Model, image: Tensor, number: int) -> Tensor:
    """Probability of class `number` for each place of the square, float32 [G, G].

    Args:
        image: uint8 [3, S, S].
    """
    size = image.shape[-1]
    middles = (torch.arange(PLACES) + 0.5) * size / PLACES
    covers = (torch.arange(size) + 0.5 - middles[:, None]).abs() < size / SIDE / 2  # [G, S]
    mask = (covers[:, None, :, None] & covers[None, :, None, :]).flatten(0, 1)  # [G * G, S, S]
    covered = torch.where(mask[:, None].to(image.device), GREY, image)
    return answer(model, covered, number).view(PLACES, PLACES)


@torch.inference_mode()
def answer(model: Model, images: Tensor, number: int) -> Tensor:
    """Probability of class `number`, float32 [N], of uint8 images [N, 3, S, S] as they are.

    Without that of their mirror images, which would move half of the evidence to the other side.
    """
    blocks = images.split(eval_batch_size(model.net, images.shape[-1]))
    out = torch.cat([logits(model.net, block, flip=False) for block in blocks])
    return (out / model.spec.temperature).softmax(1)[:, number]
