"""What DVC has on record, read without importing DVC (whose import alone would take longer than the answer).

The hashes are DVC's own: md5 of a file's bytes; for a folder, md5 of the JSON list of its files, sorted.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from weathervane import params
from weathervane.errors import InputError
from weathervane.parallel import in_order

RAW_DVC, DVC_LOCK = "data/raw.dvc", "dvc.lock"  # in git; a retraining writes both


class Entry(BaseModel):
    """A file or a folder, and what it held."""

    path: str
    md5: str


class Tracked(BaseModel):
    """A .dvc file, as far as it is read here."""

    outs: list[Entry] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)


class Locked(BaseModel):
    """A stage of dvc.lock."""

    cmd: str
    deps: list[Entry] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)
    outs: list[Entry]


def tracked_in(content: object, where: Path | str) -> Tracked:
    """What a .dvc file says.

    Raises:
        InputError: it is none, such as one with the marks of a conflict.
    """
    try:
        return Tracked.model_validate(content)
    except ValidationError:
        raise InputError(f"{where}: not a valid DVC file: repair it (a merge conflict?)") from None


def raw_md5(root: Path) -> str | None:
    """md5 of data/raw as `data/raw.dvc` records it; None where nothing is tracked yet."""
    tracked = _raw(root)
    return tracked.outs[0].md5 if tracked else None


def tracked_dataset(root: Path) -> str | None:
    """Name of the dataset that data/raw.dvc tracks; None where nothing is tracked yet."""
    tracked = _raw(root)
    return tracked.meta.get("dataset") if tracked else None


def _raw(root: Path) -> Tracked | None:
    path = root / RAW_DVC
    return tracked_in(params.read(path), path) if path.is_file() else None


def prepared_md5(root: Path) -> str:
    """One md5 for what the stage `prepare` left in data/prepared, from what dvc.lock records of each output.

    Raises:
        InputError: the stage has never run.
    """
    if locked := _locked(root, "prepare"):
        return _together({out.path: out.md5 for out in locked.outs})
    raise InputError("dvc.lock: the stage 'prepare' has not run: run 'dvc repro prepare' or 'weathervane retrain'")


def md5_of_prepared(root: Path, home: Path) -> str:
    """The same for the files that stand in `home`/data/prepared, whoever made them."""
    declared = params.read(root / "dvc.yaml")["stages"]["prepare"]["outs"]
    return _together({path: md5(home / path) or "" for path in declared})


def stale_because(root: Path, stage: str) -> str | None:
    """Why a stage's outputs are not those of its dependencies, in words; None if they are.

    For stages like ours: parameters are whole files.
    """
    declared, locked = params.read(root / "dvc.yaml")["stages"][stage], _locked(root, stage)
    if not locked:
        return f"{stage} has never run"
    for what, wanted, held in (
        ("command", declared["cmd"], locked.cmd),
        ("dependencies", set(declared["deps"]), {dep.path for dep in locked.deps}),
        ("parameters", {path for file in declared.get("params", ()) for path in file}, set(locked.params)),
        ("outputs", set(declared["outs"]), {out.path for out in locked.outs}),
    ):
        if wanted != held:
            return f"the {what} of {stage} changed in dvc.yaml"
    for dependency in locked.deps:
        if md5(root / dependency.path) != dependency.md5:
            return f"{dependency.path} changed"
    for path, recorded in locked.params.items():
        if params.read(root / path) != recorded:
            return f"{path} changed"
    for out in locked.outs:
        if md5(root / out.path) != out.md5:
            return f"{out.path} is missing or changed"
    return None


def md5(path: Path) -> str | None:
    """DVC's md5 of a file or a folder; None if it is not there."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    if not path.is_dir():
        return None
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    digests = in_order(lambda name: md5(path / name), files)
    listing = [{"md5": digest, "relpath": name} for digest, name in zip(digests, files, strict=True)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _together(outs: dict[str, str]) -> str:
    return hashlib.md5(json.dumps(sorted(outs.items())).encode(), usedforsecurity=False).hexdigest()


def _locked(root: Path, stage: str) -> Locked | None:
    """What is on record of a stage; None where it never ran, or what a merge has left is no record."""
    lock = root / DVC_LOCK
    stages = params.read(lock).get("stages") if lock.is_file() else None
    try:
        return Locked.model_validate(stages.get(stage)) if isinstance(stages, dict) else None
    except ValidationError:
        return None
