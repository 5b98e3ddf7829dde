"""Where the pixels of a part of the dataset are while it is trained on: on the device if they fit there; else they stay
on disk, and threads bring the next batches while the device works at this one.

Legend: N = images, S = size, B = images of a batch.
"""

import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from weathervane import quota
from weathervane.device import on_side_stream, resident
from weathervane.lifeline import TORCHRUN
from weathervane.parallel import in_order
from weathervane.store import Store, images_per_block

SHARE = 0.5  # of the device's memory that pixels may take, unless a limit is given
READERS = {"cuda": 2}  # threads: one alone is slower than an H200 (docs/log.md); a CPU's cores are at work themselves
AHEAD = 4  # batches, or on a GPU what is augmented at once


class Pixels:
    """Some rows of a store, uint8 [N, 3, S, S]; equal batches wherever they are kept."""

    def __init__(self, store: Store, rows: np.ndarray, size: int, device: torch.device, on_device: bool) -> None:
        """`on_device`: they stay there, brought block by block."""
        self._store, self._rows, self.size, self._device = store, rows, size, device
        self.held = None
        if on_device:
            shape, last = (len(rows), 3, size, size), torch.channels_last
            self.held = torch.empty(shape, dtype=torch.uint8, device=device, memory_format=last)
            step = images_per_block(store.size)
            for first, pixels in zip(range(0, len(rows), step), store.blocks(rows), strict=True):
                self.held[first : first + step] = resident(pixels, size, device)

    def __len__(self) -> int:
        """N."""
        return len(self._rows)

    @property
    def on_its_way(self) -> int:
        """Bytes of an image that has to be brought; 0 if all are there."""
        return 0 if self.held is not None else 3 * self._store.size**2

    def take(self, chosen: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] on the device, of int64 [B] in 0..N-1."""
        if self.held is not None:  # as rows that are copied whole: value by value it takes ten times as long
            return self.held.permute(0, 2, 3, 1).index_select(0, chosen).permute(0, 3, 1, 2)
        pixels = self._store.pixels(self._rows[chosen.cpu().numpy()])
        return resident(pixels, self.size, self._device)

    def batches(self, order: Iterable[Tensor]) -> Iterator[Tensor]:
        """`take` of each of them in turn, made `on_side_stream`, some ahead of time where they come from disk."""
        if self.held is not None:
            return map(self._beside, order)
        # Asked for their rows later, a GPU would first do all that waits for it.
        rows = [chosen.cpu() for chosen in order]
        return in_order(self._beside, rows, ahead=AHEAD + 1, threads=READERS.get(self._device.type, 1))

    def _beside(self, chosen: Tensor) -> Tensor:
        with on_side_stream(self._device):
            return self.take(chosen)


def memory_for_pixels(device: torch.device) -> float:
    """Bytes that pixels may take: a share of what is free on a GPU, of all that there is elsewhere for each process."""
    if device.type == "cuda":
        return SHARE * torch.cuda.mem_get_info(device)[0]
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if TORCHRUN in os.environ else 1
    return SHARE * _host_memory() / processes


def _host_memory() -> float:
    """Bytes that this machine has, or less where a container may not use all of them."""
    return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), quota.memory())
