"""Checkpoints on disk: faults 17, 30 and 31."""

import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.drills.kill import forked
from weathervane import checkpoint, files
from weathervane.checkpoint import newest, write
from weathervane.errors import InputError


def tensors(number: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {"a": torch.rand(40, 50, generator=generator), "b.c": torch.tensor(number)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints were written."""
    for number in (1, 2, 3):
        write(tmp_path / "checkpoints", number, tensors(number), {"number": number})
    return tmp_path / "checkpoints"


def number(folder: Path) -> int:
    """Of the newest whole checkpoint, 0 if there is none; its tensors and its content belong together."""
    found, _ = newest(folder)
    if found is None:
        return 0
    held, content = found
    wanted = tensors(content["number"])
    assert held.keys() == wanted.keys() and all(torch.equal(held[name], wanted[name]) for name in wanted)
    return int(content["number"])


def test_the_newest_comes_back_and_the_one_before_is_kept(folder: Path) -> None:
    """Tensors to the last bit, the content as it was; two checkpoints, each with a sha256 for `sha256sum -c`."""
    assert number(folder) == 3
    assert sorted(path.name for path in folder.iterdir()) == [
        f"000000000{n}.{ending}" for n in (2, 3) for ending in ("safetensors", "sha256")
    ]
    for path in folder.glob("*.sha256"):
        digest, name = path.read_text().split()
        assert files.sha256(folder / name) == digest


def test_what_a_kill_between_its_two_files_left_goes(folder: Path) -> None:
    """A checkpoint without its sha256 is none: it is removed, or 34 MB would stay with each such kill."""
    (folder / "0000000003.sha256").unlink()
    assert number(folder) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["0000000002.safetensors", "0000000002.sha256"]


def test_where_nothing_is_there_is_none(tmp_path: Path) -> None:
    """A first training has no checkpoint, and asking makes no folder."""
    assert newest(tmp_path / "none") == (None, [])
    assert not (tmp_path / "none").exists()


@pytest.mark.fault(31, trials=50)
def test_a_damaged_one_is_told_and_the_one_before_is_used(folder: Path, tmp_path: Path) -> None:
    """50 of 50 flipped bytes and cut ends of the newest are noticed: the one before loads, and the person reads why."""
    rng = random.Random(0)
    whole = (folder / "0000000003.safetensors").read_bytes()
    for trial in range(50):
        copy = tmp_path / str(trial)
        shutil.copytree(folder, copy)
        place = rng.randrange(len(whole))
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        (copy / "0000000003.safetensors").write_bytes(bytes(data) if trial % 2 else whole[:place])
        found, told = newest(copy)
        assert found is not None and found[1] == {"number": 2}
        assert "checkpoint 0000000003.safetensors is damaged" in told[0]
    (folder / "0000000003.safetensors").unlink()
    assert number(folder) == 2
    for nonsense in ("", "nonsense"):
        (folder / "0000000002.sha256").write_text(nonsense)
        assert number(folder) == 0


def test_a_new_beginning_is_not_lost_behind_damaged_ones(folder: Path) -> None:
    """Where all were damaged, the checkpoints of the training that begins again, with lower numbers, are those kept."""
    for path in folder.glob("*.safetensors"):
        path.write_bytes(b"damaged")
    assert number(folder) == 0
    write(folder, 0, tensors(0), {"number": 0})
    write(folder, 1, tensors(1), {"number": 1})
    assert number(folder) == 1
    assert sorted(path.name for path in folder.glob("*.sha256")) == ["0000000000.sha256", "0000000001.sha256"]


PLACES: dict[str, tuple[Any, str]] = {
    "write": (files.os, "fsync"),  # the bytes stand in the file aside, nothing more
    "fsync of the folder": (files, "sync_folder"),
    "rename": (Path, "replace"),
}


@pytest.mark.fault(30, drilled=9)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", [1, 2])
def test_a_kill_in_the_middle_leaves_the_one_before(
    folder: Path, place: str, call: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the write, the fsync or the rename of either file: a whole one loads, and the next write works."""
    module, name = PLACES[place]

    def last_words() -> None:
        calls, real = [0], getattr(module, name)

        def deadly(*arguments: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        monkeypatch.setattr(module, name, deadly)
        write(folder, 4, tensors(4), {"number": 4})

    assert not forked(last_words)
    assert number(folder) in (3, 4)
    write(folder, 5, tensors(5), {"number": 5})
    assert number(folder) == 5
    assert not list(folder.glob(".*"))


def limited(work: Callable[[], object]) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
    with pytest.raises(InputError, match=r"0000000004\.safetensors: .* bytes are needed"):
        work()


@pytest.mark.fault(17)
def test_no_room_is_told_with_the_bytes_that_are_needed(folder: Path) -> None:
    """Where the file cannot be written whole, the error names it and its size, and the one before still loads."""
    assert forked(lambda: limited(lambda: write(folder, 4, tensors(4), {"number": 4})))
    assert number(folder) == 3
    assert not list(folder.glob(".*"))


def test_nothing_in_it_is_executed(folder: Path) -> None:
    """A pickle in the place of a checkpoint, with a sha256 that fits, is damage like any other."""
    import hashlib
    import pickle

    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(folder / "executed"),))

    data = pickle.dumps(Canary())
    (folder / "0000000009.safetensors").write_bytes(data)
    (folder / "0000000009.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  x\n")
    assert number(folder) == 3
    assert not (folder / "executed").exists()
    assert checkpoint.KEPT == 2
