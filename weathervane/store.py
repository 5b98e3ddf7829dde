"""Reading data/prepared: the manifest and the memory-mapped pixels, as prepare left them and no others.

Legend: N = images, S = the store's size in pixels; pixels are uint8 0-255, RGB.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from weathervane.errors import InputError, in_brief
from weathervane.files import replacing, sha256
from weathervane.parallel import in_order

MANIFEST, PIXELS, SUMS = "manifest.parquet", "pixels", "SHA256SUMS"
AGAIN = "run 'weathervane retrain' to have it made again"
BLOCK = 1 << 26  # bytes of pixels that are worked at together: read, brought to a device, shrunk, judged


def images_per_block(size: int) -> int:
    """Images of this size that are worked at together: their number is bounded by their bytes."""
    return max(1, BLOCK // (3 * size**2))


def shard_name(number: int) -> str:
    """Path of the `number`-th shard, from 0, inside the store."""
    return f"{PIXELS}/{number:05d}.npy"


def seal(folder: Path) -> None:
    """Record what the manifest and the shards hold, as `sha256sum` does: from now on no other bytes are read."""
    with replacing(folder / SUMS) as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in _sums(folder).items())


def changed(folder: Path) -> str | None:
    """A file of a prepared dataset that is not as `seal` saw it, or one that is missing; None if all of them are."""
    if not (folder / SUMS).is_file():
        return SUMS
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sealed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = _sums(folder)
    return next((name for name in sorted({*sealed, *found}) if sealed.get(name) != found.get(name)), None)


def _sums(folder: Path) -> dict[str, str]:
    """Name → sha256 of the manifest and the shards that stand there."""
    files = [path for path in (folder / MANIFEST, *sorted((folder / PIXELS).glob("*.npy"))) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in files]
    return dict(zip(names, in_order(sha256, files), strict=True))


def _shard(path: Path) -> np.ndarray:
    """A plain array over the mapped file: each look into a numpy.memmap makes another one."""
    try:
        shard = np.asarray(np.load(path, mmap_mode="r"))
        if shard.dtype != np.uint8 or shard.ndim != 4:
            raise ValueError(f"{shard.dtype} {list(shard.shape)}, uint8 [N, S, S, 3] is expected")
        return shard
    except (ValueError, EOFError) as error:  # what is no array, or an array of objects, is never unpickled
        raise InputError(f"{path}: not an array of pixels ({in_brief(error)}): {AGAIN}") from None


class Store:
    """A prepared dataset: `manifest[column]`, arrays of length N, and pixels by row number.

    Raises:
        InputError: there is none, or a file changed since it was prepared.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: no {MANIFEST}: run 'dvc repro prepare' or 'weathervane retrain'")
        if name := changed(folder):
            raise InputError(f"{folder / name}: not as it was prepared: {AGAIN}")

    @cached_property
    def manifest(self) -> dict[str, np.ndarray]:
        """Columns sha256, label, split, group, source, path (str), fold, width, height (int64)."""
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(self.folder / MANIFEST).read()  # read_table imports pandas
        except ValueError as error:
            raise InputError(f"{self.folder / MANIFEST}: not a manifest ({in_brief(error)}): {AGAIN}") from None
        return {name: np.array(table[name].to_pylist()) for name in table.column_names}

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row number of each image's sha256."""
        return {sha256: row for row, sha256 in enumerate(self.manifest["sha256"].tolist())}

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        return [_shard(path) for path in sorted((self.folder / PIXELS).glob("*.npy"), key=lambda path: int(path.stem))]

    @property
    def size(self) -> int:
        """S, pixels a side."""
        return int(self._shards[0].shape[1])

    @cached_property
    def classes(self) -> list[str]:
        """Class names in alphabetical order."""
        return sorted(set(self.manifest["label"].tolist()))

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [len(rows), S, S, 3] of the given row numbers, copied into memory."""
        out = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        shards, places = np.divmod(rows, len(self._shards[0]))
        for shard in np.unique(shards):  # not image by image: other threads have the interpreter meanwhile
            chosen = np.flatnonzero(shards == shard)
            out[chosen] = self._shards[shard].take(places[chosen], axis=0)
        return out

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """`pixels` of these rows, as many at a time as BLOCK holds."""
        step = images_per_block(self.size)
        return (self.pixels(rows[first : first + step]) for first in range(0, len(rows), step))

    def part(self, split: str, fold: int | None = None, without_fold: int | None = None) -> np.ndarray:
        """Row numbers (int64) of a split; of one fold of it, or of all but one."""
        chosen = self.manifest["split"] == split
        if fold is not None:
            chosen &= self.manifest["fold"] == fold
        if without_fold is not None:
            chosen &= self.manifest["fold"] != without_fold
        return np.flatnonzero(chosen)
