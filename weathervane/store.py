"""Reading data/prepared: the manifest and the memory-mapped pixels.

Legend: N = images, S = the store's size in pixels; pixels are uint8 0-255, RGB.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from weathervane.errors import InputError

MANIFEST, PIXELS = "manifest.parquet", "pixels"


def shard_name(number: int) -> str:
    """Path of the `number`-th shard, from 0, inside the store."""
    return f"{PIXELS}/{number:05d}.npy"


class Store:
    """A prepared dataset: `manifest[column]` lists of length N, and pixels by row number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: no {MANIFEST}: run 'dvc repro prepare' or 'weathervane retrain'")

    @cached_property
    def manifest(self) -> dict[str, np.ndarray]:
        """Columns sha256, label, split, group, source, path (str), fold, width, height (int64)."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.folder / MANIFEST)
        return {name: np.array(table[name].to_pylist()) for name in table.column_names}

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        shards = [np.load(path, mmap_mode="r") for path in sorted((self.folder / PIXELS).glob("*.npy"))]
        if sum(map(len, shards)) != len(self.manifest["sha256"]):
            raise InputError(f"{self.folder}: pixels and {MANIFEST} disagree: run 'dvc checkout {self.folder}'")
        return shards

    @property
    def size(self) -> int:
        """S, pixels a side."""
        return int(self._shards[0].shape[1])

    @property
    def classes(self) -> list[str]:
        """Class names in alphabetical order."""
        return sorted(set(self.manifest["label"].tolist()))

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [len(rows), S, S, 3] of the given row numbers, copied into memory."""
        out = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        per_shard = len(self._shards[0])
        for number, shard in enumerate(self._shards):
            here = np.flatnonzero(np.asarray(rows) // per_shard == number)
            out[here] = shard[np.asarray(rows)[here] - number * per_shard]
        return out

    def part(self, split: str, fold: int | None = None, without_fold: int | None = None) -> np.ndarray:
        """Row numbers (int64) of a split; of one fold of it, or of all but one."""
        chosen = self.manifest["split"] == split
        if fold is not None:
            chosen &= self.manifest["fold"] == fold
        if without_fold is not None:
            chosen &= self.manifest["fold"] != without_fold
        return np.flatnonzero(chosen)
