"""Near-duplicate photographs: copies that were recompressed, resized or lightly retouched.

A difference hash (dHash; N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013) proposes pairs and
the correlation of small grey thumbnails confirms them: smooth skies share hashes, so that the hash alone
chains hundreds of unrelated photographs together. Copies that were mirrored, or cropped by 5 % of a side or
more, are mostly not found.

Legend: N = images.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import Image

from weathervane.parallel import cores

SIDE = 32
MAX_DISTANCE, MIN_CORRELATION = 8, 0.97  # of a pair, see `components`
FLAT_STD = 1.0  # grey levels: a thumbnail below this has no structure but rounding
FLAT_MEAN = 2.0  # grey levels: JPEG at quality 30 moves a constant by up to 1.7
# Rows a task, columns a tile, proposals a confirmation: about 20 MB of working memory a thread.
_STRIP, _TILE, _CHUNK = 256, 8192, 4096


class Signature(NamedTuple):
    """What is kept of an image: `dhash` uint64, and `grey` uint8 [32, 32], 0-255."""

    dhash: np.uint64
    grey: np.ndarray


def signature(image: Image.Image) -> Signature:
    """The signature of an upright RGB or L image of any size.

    JPEG's scaled decoding (`draft`) to 256 px or more changes no group; to 128 px it changes some.

    Both parts are shrunk from the same grey image by an antialiased triangle filter, regardless of the
    aspect ratio. Bit 63 of `dhash` is set where the second pixel of the first row of 9 is brighter than the
    first, and so on through 8 rows. An image of almost constant grey has a `dhash` of 0: its bits would be
    rounding.
    """
    luma = image.convert("L")
    grey = np.asarray(luma.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    if grey.std() < FLAT_STD:
        return Signature(np.uint64(0), grey)
    steps = np.asarray(luma.resize((9, 8), Image.Resampling.BILINEAR))
    bits = np.packbits(steps[:, 1:] > steps[:, :-1])
    return Signature(np.uint64(int.from_bytes(bits.tobytes(), "big")), grey)


def signatures(pixels: np.ndarray) -> list[Signature]:
    """Of each image, uint8 [N, H, W, 3]."""
    return [signature(Image.fromarray(one)) for one in pixels]


def stacked(marks: Sequence[Signature]) -> tuple[np.ndarray, np.ndarray]:
    """`dhash` uint64 [N] and `grey` uint8 [N, 32, 32] of N signatures, at least one, as `components` takes them."""
    return np.array([mark.dhash for mark in marks], np.uint64), np.stack([mark.grey for mark in marks])


def components(dhash: np.ndarray, grey: np.ndarray, new_from: int = 0) -> np.ndarray:
    """Groups of near-duplicates, int64 [N]: of each image, the smallest index of those that pairs connect it with.

    Two images are a pair where at most MAX_DISTANCE of 64 hash bits differ and the Pearson correlation of the
    thumbnails exceeds MIN_CORRELATION. Thumbnails with a standard deviation below 1 grey level have no meaningful
    correlation: two of them are a pair when their mean greys differ by at most 2 levels, and they pair with no other
    image. Every pair of hashes is compared, on all cores, in time proportional to N² and in memory proportional to N.
    Pairs are joined as they are found, and what is joined is not compared again: a thousand photographs of one camera
    are half a million pairs, and one component after a thousand of them.

    Args:
        dhash: uint64 [N], from `signature`.
        grey: uint8 [N, 32, 32], from `signature`.
        new_from: pairs of which both are before it are left out, 0..N: they are known.

    Raises:
        ValueError: shapes or dtypes are other than stated, or `new_from` is outside 0..N.
    """
    n = _checked(dhash, grey, new_from)
    alike, label, one_at_a_time = _Confirm(grey), np.arange(n), Lock()

    def strip(start: int) -> None:
        for proposed in _proposals(dhash, start):
            left = _apart(label, proposed)
            for some in (_one_of_each(label, left), left):
                some = _apart(label, some)
                joined = some[alike(*some.T)]
                with one_at_a_time:
                    _hook(label, joined)

    with ThreadPoolExecutor(min(cores(), 8)) as threads:
        list(threads.map(strip, range(new_from, n, _STRIP)))
    return _roots(label, label)


def _apart(label: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The pairs between two components."""
    return pairs[np.not_equal(*_roots(label, pairs).T)]


def _one_of_each(label: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The first pair between each two components."""
    ends = _roots(label, pairs)
    _, first = np.unique(ends[:, 0] * len(label) + ends[:, 1], return_index=True)
    return pairs[first]


def _roots(label: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The smallest index of each image's component."""
    while not np.array_equal(above := label[images], images):
        images = above
    return images


def _hook(label: np.ndarray, pairs: np.ndarray) -> None:
    """Join the components that the pairs connect, each under the smaller index, and flatten the trees that grew."""
    while True:
        ends = _roots(label, pairs)
        apart = ends[:, 0] != ends[:, 1]
        if not apart.any():
            return
        pairs, ends = pairs[apart], ends[apart]
        np.minimum.at(label, ends.max(axis=1), ends.min(axis=1))
        grown = np.unique(ends)
        while (label[grown] != label[label[grown]]).any():
            label[grown] = label[label[grown]]


def _checked(dhash: np.ndarray, grey: np.ndarray, new_from: int) -> int:
    """N, of arrays that are as `components` says."""
    n = len(dhash)
    if dhash.dtype != np.uint64 or dhash.shape != (n,):
        raise ValueError(f"dhash: uint64 [N] is needed, this is {dhash.dtype} {list(dhash.shape)}")
    if grey.dtype != np.uint8 or grey.shape != (n, SIDE, SIDE):
        raise ValueError(f"grey: uint8 [{n}, {SIDE}, {SIDE}] is needed, this is {grey.dtype} {list(grey.shape)}")
    if not 0 <= new_from <= n:
        raise ValueError(f"new_from: 0 to {n} is possible, this is {new_from}")
    return n


def _proposals(dhash: np.ndarray, start: int) -> Iterator[np.ndarray]:
    """Pairs i < j whose hashes are near, j of the strip that begins at `start`, int64 [at most _CHUNK, 2] at a time."""
    stop = min(start + _STRIP, len(dhash))
    for left in range(0, stop, _TILE):
        right = min(left + _TILE, stop)
        near = np.bitwise_count(dhash[start:stop, None] ^ dhash[left:right]) <= MAX_DISTANCE
        at = np.flatnonzero(near.ravel())  # ten times as fast as nonzero() of two dimensions
        j, i = start + at // (right - left), left + at % (right - left)
        found = np.stack([i, j], axis=1)[i < j]
        yield from (found[k : k + _CHUNK] for k in range(0, len(found), _CHUNK))


class _Confirm:
    """Whether thumbnails i and j are of the same picture, in whole numbers: the same on every machine."""

    def __init__(self, grey: np.ndarray) -> None:
        self.pixels = grey.reshape(len(grey), SIDE * SIDE)
        self.k = SIDE * SIDE
        self.total = self.pixels.sum(axis=1, dtype=np.int64)
        squares = np.einsum("nk,nk->n", self.pixels, self.pixels, dtype=np.int64)
        self.spread = self.k * squares - self.total**2  # k² times the variance
        self.flat = self.spread < (self.k * FLAT_STD) ** 2
        # 8x8 block sums of the thumbnails scaled to length 1: an orthogonal projection, which takes no two
        # further apart. Correlated by c, they lie sqrt(2 - 2c) apart: nearly all false proposals fail this
        # bound, at a tenth of the cost.
        blocks = self.pixels.reshape(-1, 8, 4, 8, 4).sum(axis=(2, 4), dtype=np.int32).reshape(-1, 64)
        length = np.where(self.flat, np.inf, np.sqrt(self.spread / self.k))
        self.coarse = ((blocks - self.total[:, None] / 64) / (4 * length[:, None])).astype(np.float32)
        self.bound = 2 - 2 * MIN_CORRELATION + 1e-4  # and room for rounding

    def __call__(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        apart = self.coarse[i] - self.coarse[j]
        near = np.vecdot(apart, apart) <= self.bound
        near[near] = self._exactly(i[near], j[near])
        return near

    def _exactly(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        products = np.einsum("pk,pk->p", self.pixels[i], self.pixels[j], dtype=np.int32)  # below 2³¹
        covariance = self.k * products.astype(np.int64) - self.total[i] * self.total[j]
        scale = np.sqrt(self.spread[i].astype(np.float64) * self.spread[j])
        level = np.abs(self.total[i] - self.total[j]) <= self.k * FLAT_MEAN
        same = covariance > MIN_CORRELATION * scale
        return np.where(self.flat[i] | self.flat[j], self.flat[i] & self.flat[j] & level, same)
