"""Train one variant in a process of its own: `python -m weathervane.train <folder>`; in several, under torchrun.

The folder holds job.json; metrics.jsonl, gradients.jsonl, checkpoints/, model/ and, at the end, outcome.json or
error.json are added. Killed at any moment, the same command goes on where it was. It runs by hand and on another
machine, too: it imports none of Prefect, MLflow and DVC.
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from weathervane.errors import InputError, Interrupted, TrainingError, in_brief
from weathervane.files import replacing
from weathervane.folds import Outer, placed
from weathervane.lifeline import TORCHRUN, VARIABLE, hold
from weathervane.params import Seed, Strict, check
from weathervane.process import settle
from weathervane.variant import Variant


class Job(Strict):
    """job.json: one variant on one prepared dataset."""

    name: str
    variant: Variant
    data: str  # the prepared dataset's folder
    device: str
    seed: Seed
    fold: int = Field(ge=0)
    threads: int = Field(ge=0)  # 0 leaves it to torch
    time_limit: float | None = Field(default=None, gt=0)  # minutes in the loop, all tries together
    memory: float | None = Field(default=None, ge=0)  # GB of pixels at most that stay on the device
    outer: Outer | None = None  # of a cross-validation: other parts than the dataset's own
    about: dict[str, str] = Field(default_factory=dict)


def read_job(folder: Path) -> Job:
    """The folder's job.json, checked."""
    path = folder / "job.json"
    try:
        return check(Job, json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable: {error}") from None


def train(folder: Path, stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Fit the folder's job, or go on with it, until `stop` says so; returns and writes what outcome.json says."""
    job = read_job(folder)
    for name in ("outcome.json", "error.json"):
        (folder / name).unlink(missing_ok=True)
    settle()

    import torch

    from weathervane.device import out_of_memory
    from weathervane.fit import fit
    from weathervane.ranks import Ranks
    from weathervane.store import Store

    if job.threads:
        torch.set_num_threads(job.threads)
    ranks, started = Ranks.from_environment(), time.perf_counter()
    device, store = ranks.device(job.device), Store(Path(job.data))
    try:
        with ranks.process_group(device):
            outcome = fit(
                job.name,
                job.variant,
                placed(store, job.outer) if job.outer else store,
                folder,
                device=device,
                seed=job.seed,
                fold=job.fold,
                about=job.about,
                stop=stop,
                limit=60 * job.time_limit if job.time_limit else math.inf,
                ranks=ranks,
                memory=None if job.memory is None else 1e9 * job.memory,
            )
    except RuntimeError as error:
        if not out_of_memory(error):  # of a step itself, fit makes do with parts of the batch
            raise
        lower = "size (network.input_size, where there is one), the network, train.batch or --memory"
        raise TrainingError(f"out of memory ({in_brief(error)}): lower {lower}") from None
    result = asdict(outcome) | {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": ranks.world_size,
        "whole_seconds": time.perf_counter() - started,
        "peak_memory_bytes": _peak_memory(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
    }
    if ranks.is_main:
        with replacing(folder / "outcome.json") as file:
            json.dump(result, file, indent=1)
    return result


def _tell(folder: Path, error: Exception, status: int) -> None:
    if (folder / "job.json").is_file():
        with replacing(folder / "error.json") as file:
            json.dump({"error": str(error), "status": status}, file)  # torchrun ends with 1 whatever it was
    print(error, file=sys.stderr)


def _peak_memory() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    """Exit status 0: outcome.json stands; 1: training failed; 2: bad input; error.json says what. 3: interrupted by
    SIGTERM or SIGINT, with a checkpoint."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder, asked = Path(sys.argv[1]), []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number))
    if TORCHRUN in os.environ:  # torchrun is the parent; it knows nothing of ours
        os.environ[VARIABLE] = str(os.getppid())
    hold()
    try:
        train(folder, stop=lambda: bool(asked))
    except (InputError, TrainingError) as error:
        status = 2 if isinstance(error, InputError) else 1
        _tell(folder, error, status)
        return status
    except Interrupted as told:
        _tell(folder, told, 3)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
