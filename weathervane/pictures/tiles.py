"""Many small images in one: a grid of tiles, and numbers of either sign as colours.

Legend: N = images, H, W = height, width.
"""

import numpy as np


def signed(values: np.ndarray) -> np.ndarray:
    """float [N, H, W, 3] of either sign to colours 0-1: grey is 0, each image is stretched to its own largest value."""
    most = np.abs(values).max((1, 2, 3), keepdims=True)
    return 0.5 + values / np.where(most > 0, 2 * most, 1)


def grid(tiles: np.ndarray, columns: int, gap: tuple[int, int] = (2, 2)) -> np.ndarray:
    """[N, H, W, 3], uint8 or colours 0-1, to one image of rows of tiles, with white pixels in between.

    Args:
        gap: how many of them below a tile, and to the right of it.
    """
    n, height, width, _ = tiles.shape
    down, across = height + gap[0], width + gap[1]
    shape = (-(-n // columns) * down - gap[0], columns * across - gap[1], 3)
    whole = np.full(shape, 255 if tiles.dtype == np.uint8 else 1, tiles.dtype)
    for number, tile in enumerate(tiles):
        top, left = number // columns * down, number % columns * across
        whole[top : top + height, left : left + width] = tile
    return whole


def enlarged(tiles: np.ndarray, width: int) -> np.ndarray:
    """[N, H, W, 3] with every pixel repeated, so that a tile is about `width` pixels wide."""
    times = max(1, round(width / tiles.shape[2]))
    return tiles.repeat(times, 1).repeat(times, 2)


def stretched(tiles: np.ndarray, side: int) -> np.ndarray:
    """[N, S, S, 3] to [N, side, side, 3], each pixel from the nearest one."""
    nearest = np.arange(side) * tiles.shape[1] // side
    return tiles[:, nearest][:, :, nearest]
