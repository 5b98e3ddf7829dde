"""Train one variant in a process of its own: `python -m weathervane.train <folder>`.

The folder holds job.json; metrics.jsonl, model/ and, at the end, outcome.json or error.json are added. The
same command runs by hand and on another machine: it imports torch and weathervane only.
"""

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from weathervane.errors import InputError, TrainingError
from weathervane.files import replacing
from weathervane.lifeline import hold
from weathervane.params import Strict, check
from weathervane.variant import Variant


class Job(Strict):
    """job.json: one variant on one prepared dataset."""

    name: str
    variant: Variant
    data: str  # the prepared dataset's folder
    device: str
    seed: int = Field(ge=0)
    fold: int = Field(ge=0)
    threads: int = Field(ge=0)  # 0 leaves it to torch
    about: dict[str, str] = Field(default_factory=dict)


def read_job(folder: Path) -> Job:
    """The folder's job.json, checked."""
    path = folder / "job.json"
    try:
        return check(Job, json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable: {error}") from None


def train(folder: Path) -> dict[str, Any]:
    """Fit the folder's job; returns and writes what outcome.json says."""
    job = read_job(folder)
    for name in ("outcome.json", "error.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "metrics.jsonl").write_bytes(b"")  # not removed: whoever copies from it may have it open
    # Read by libgomp when torch loads. Its threads spin 30 times as long by default, which costs a busy machine dearly.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    import torch

    from weathervane.device import choose
    from weathervane.fit import fit
    from weathervane.store import Store

    if job.threads:
        torch.set_num_threads(job.threads)
    device, started = choose(job.device), time.perf_counter()
    outcome = fit(
        job.name,
        job.variant,
        Store(Path(job.data)),
        folder,
        device=device,
        seed=job.seed,
        fold=job.fold,
        about=job.about,
    )
    result = asdict(outcome) | {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "whole_seconds": time.perf_counter() - started,
        "peak_memory_bytes": _peak_memory(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
    }
    with replacing(folder / "outcome.json") as file:
        json.dump(result, file, indent=1)
    return result


def _peak_memory() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Exit status 0: outcome.json stands; 1: training failed; 2: bad input. error.json says what."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    hold()
    try:
        train(folder)
    except (InputError, TrainingError) as error:
        if (folder / "job.json").is_file():
            with replacing(folder / "error.json") as file:
                json.dump({"error": str(error)}, file)
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
