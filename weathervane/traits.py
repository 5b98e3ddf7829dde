"""What can be said of a photograph without knowing what it shows. Legend: S = size."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
TRAITS = ("brightness", "contrast", "saturation", "sharpness")


def traits(pixels: np.ndarray) -> dict[str, float]:
    """uint8 [S, S, 3] to four numbers.

    brightness: mean luma, 0-1. contrast: standard deviation of luma, 0-0.5. saturation: mean of (max - min) / max of
    the channels, 0-1 (HSV). sharpness: variance of the Laplacian of luma in squared grey levels, 0 upwards
    (Pech-Pacheco et al. 2000).
    """
    luma = pixels.astype(np.float32) @ LUMA
    red, green, blue = np.moveaxis(pixels, 2, 0)  # pair by pair: numpy takes the largest of three in ten times the time
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    saturation = (most - least) / np.maximum(most, 1, dtype=np.float32)
    found = (luma.mean() / 255, luma.std() / 255, saturation.mean(), laplacian.var())
    return dict(zip(TRAITS, map(float, found), strict=True))
