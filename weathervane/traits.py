"""What can be said of photographs without knowing what they show. Legend: N = images, S = size."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
TRAITS = ("brightness", "contrast", "saturation", "sharpness")
TOGETHER = 16  # images that stay in a core's cache; at 96 px a third of the time of one by one (AMD EPYC, n = 1)


def traits(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [N, S, S, 3] to four numbers each, float64 [N].

    brightness: mean luma, 0-1. contrast: standard deviation of luma, 0-0.5. saturation: mean of (max - min) / max of
    the channels, 0-1 (HSV). sharpness: variance of the Laplacian of luma in squared grey levels, 0 upwards
    (Pech-Pacheco et al. 2000).
    """
    blocks = [_traits(pixels[first : first + TOGETHER]) for first in range(0, len(pixels), TOGETHER)]
    found = np.concatenate(blocks, 1) if blocks else np.empty((len(TRAITS), 0))
    return dict(zip(TRAITS, found.astype(np.float64), strict=True))


def _traits(pixels: np.ndarray) -> np.ndarray:
    luma, image = pixels.astype(np.float32) @ LUMA, (1, 2)
    red, green, blue = np.moveaxis(pixels, 3, 0)  # pair by pair: numpy takes the largest of three in ten times the time
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    inner = luma[:, 1:-1, 1:-1]
    laplacian = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:] - 4 * inner
    saturation = (most - least) / np.maximum(most, 1, dtype=np.float32)
    return np.stack([luma.mean(image) / 255, luma.std(image) / 255, saturation.mean(image), laplacian.var(image)])
