"""Pixels that stay on the device, or come from disk while it works: the same ones."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.weathervane.test_fit import small
from weathervane.fit import fit
from weathervane.parts import load_fold
from weathervane.pixels import AHEAD, Pixels, memory_for_pixels
from weathervane.store import Store

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [32, 24])
def test_a_batch_is_the_same_wherever_it_comes_from(store: Store, size: int) -> None:
    """In any order, shrunk or not."""
    rows = store.part("train")
    held, read = (Pixels(store, rows, size, CPU, kept) for kept in (True, False))
    assert held.held is not None and read.held is None and len(held) == len(read) == len(rows)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(rows))[:30]).view(-1, 5)
    for one, other in zip(held.batches(order), read.batches(order), strict=True):
        assert one.dtype == torch.uint8 and one.shape == (5, 3, size, size) and torch.equal(one, other)


def test_only_some_batches_are_read_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow device does not fill the memory, and a loop that is left ends the reader."""
    taken = []
    pixels, before = Pixels(store, store.part("train"), 32, CPU, on_device=False), threading.active_count()
    read = pixels.take
    monkeypatch.setattr(pixels, "take", lambda chosen: taken.append(chosen) or read(chosen))
    batches = pixels.batches(torch.arange(40).view(-1, 1))
    for number in range(3):
        next(batches)
        assert len(taken) <= number + 1 + AHEAD
    batches.close()
    assert threading.active_count() == before


def test_what_fits_stays_on_the_device(store: Store) -> None:
    """Both parts together have to be within the limit; without one, a few images are within half of the memory."""
    count = len(store.part("train"))
    for memory, kept in ((None, True), (3 * 32**2 * count, True), (3 * 32**2 * count - 1, False)):
        parts = load_fold(store, small(), 0, CPU, memory)
        assert [part.images.held is not None for part in parts] == [kept, kept]


def test_training_from_disk_is_training_from_memory(store: Store, tmp_path: Path) -> None:
    """Loss curves and weights are the same to the last bit."""
    for name, memory in (("held", None), ("read", 0.0)):
        (tmp_path / name).mkdir()
        fit("small", small(size=24), store, tmp_path / name, device=CPU, memory=memory)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("held", "read")]
    losses = [[json.loads(line)["metrics"]["train_loss"] for line in one] for one in lines]
    assert losses[0] == losses[1]
    held, read = (load_file(tmp_path / name / "model/model.safetensors") for name in ("held", "read"))
    assert all(torch.equal(held[key], read[key]) for key in held)


def test_a_container_counts_with_its_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a control group allows, where that is less than the machine has; half of it is for pixels."""
    limit, whole = tmp_path / "memory.max", memory_for_pixels(CPU)
    monkeypatch.setattr("weathervane.quota.GROUPS", tmp_path)
    for text, expected in (("max\n", whole), ("1000000\n", 500_000), (f"{10**18}\n", whole)):
        limit.write_text(text)
        assert memory_for_pixels(CPU) == expected
