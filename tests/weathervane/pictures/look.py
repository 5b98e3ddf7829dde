"""Looking at a picture as a test can: its pixels, and where a colour is."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image


def looked_at(path: Path) -> np.ndarray:
    """A PNG's pixels, int16 [H, W, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"), np.int16)


def uncut(pixels: np.ndarray) -> bool:
    """True if all four edges are white: no ink runs out of the picture."""
    return all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def of_colour(pixels: np.ndarray, colour: str, within: int = 0) -> np.ndarray:
    """bool [H, W]: pixels that have this colour, or one that is `within` so much of it in each channel."""
    return (np.abs(pixels - np.round(255 * np.array(to_rgb(colour)))) <= within).all(2)


def marked(pixels: np.ndarray, colour: str, within: int = 0) -> int:
    """How many pixels those are."""
    return int(of_colour(pixels, colour, within).sum())
