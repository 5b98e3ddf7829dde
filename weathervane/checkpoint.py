"""Checkpoints on disk: whole or not there, checked, and nothing in them that could be executed.

A checkpoint is one safetensors file, with whatever is no tensor as JSON in its header, and beside it its sha256 in the
form that `sha256sum -c` reads. The sha256 is written last: without one, a file does not count.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from weathervane.files import replacing

KEPT = 2  # the newest, and the one before in case the newest turns out to be damaged


def write(folder: Path, number: int, tensors: dict[str, Tensor], content: dict[str, Any]) -> None:
    """Add checkpoint `number`, and remove all but this one and the one before it.

    Those of a higher number are damaged, or of another training: this one would have gone on from them.

    Raises:
        InputError: no room; the checkpoints before stand.
    """
    path = _path(folder, number)
    data = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {"content": json.dumps(content)})
    digest = hashlib.sha256(data).hexdigest()
    with replacing(path, "wb", len(data)) as file:
        file.write(data)
    with replacing(path.with_suffix(".sha256")) as file:
        file.write(f"{digest}  {path.name}\n")
    there = _numbers(folder)
    kept = [old for old in there if old <= number][-KEPT:]
    for old in set(there).difference(kept):
        _path(folder, old).with_suffix(".sha256").unlink()
        _path(folder, old).unlink(missing_ok=True)


def newest(folder: Path) -> tuple[tuple[dict[str, Tensor], dict[str, Any]] | None, list[str]]:
    """Tensors (on the CPU) and content of the newest whole checkpoint, or None; and which are damaged, in words.

    What a killed writer left half done is removed.
    """
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
    for path in folder.glob("*.safetensors"):
        if not path.with_suffix(".sha256").exists():
            path.unlink(missing_ok=True)
    told: list[str] = []
    for number in reversed(_numbers(folder)):
        path = _path(folder, number)
        try:
            return _read(path), told
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            why = " ".join(str(error).split())
            told.append(f"checkpoint {path.name} is damaged ({why}): an older one is used, if there is one")
    return None, told


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    wanted, data = path.with_suffix(".sha256").read_text(encoding="utf-8").split()[0], path.read_bytes()
    if hashlib.sha256(data).hexdigest() != wanted:
        raise ValueError("its bytes are not those of its sha256")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load(data), json.loads(header["__metadata__"]["content"])


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.sha256") if path.stem.isdigit())


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:010d}.safetensors"
