"""The step `train`: one variant in a child process; its own record of metrics is copied to MLflow meanwhile."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.retries import is_transient, patiently
from tasks.step import step
from tasks.system import watched
from tasks.training_process import Lines, folder_of, job_of, train_in_child
from weathervane.errors import in_brief
from weathervane.progress import say


@dataclass(frozen=True)
class How:
    """What is no part of the fingerprint: it may differ between an interrupted training and the one that goes on."""

    device: str
    time_limit: float | None = None  # minutes, all tries together
    processes: int = 1  # that train a variant together, each on a GPU of its own where there are any
    memory: float | None = None  # GB of pixels that stay on the device; more are read batch by batch


@step(name="train", task_run_name="train {candidate.name}")
def train(root: Path, plan: Plan, candidate: Candidate, run: str, how: How) -> Path:
    """Train a variant, or go on where an interrupted training was; the folder that holds model/ and outcome.json.

    Raises:
        InputError: bad input that only the child could notice, such as a device that is not there.
        TrainingError: the training failed or reached the limit, or its process died or hung.
    """
    folder = folder_of(root, candidate)
    if not folder.exists() and (left := interrupted_otherwise(root, candidate)):
        say(f"{candidate.name}: begun anew: what was interrupted is of other data, parameters or code ({left})")
    job = job_of(root, plan, candidate, run, how.device, time_limit=how.time_limit, memory=how.memory)
    held = patiently(lambda: tracking.recorded(root, run))
    told: str | None = None

    def copy(lines: Lines, ended: bool) -> None:
        nonlocal told
        if ended:
            patiently(lambda: tracking.log_record(root, run, lines, held))
            return
        trouble = _copy(root, run, lines, held)
        if trouble and not told:  # nothing is held up by a server that is gone
            say(f"metrics wait for the tracking server: {trouble}")
        told = trouble

    with watched(root, run):
        outcome = train_in_child(root, folder, job, candidate.name, copy, how.processes)
    outcome.pop("val_accuracy")  # the evaluation's own, val/accuracy, is told with its interval
    numbers = {f"train/{key}": value for key, value in outcome.items() if isinstance(value, int | float)}
    tags = {key: str(outcome[key]) for key in ("device", "device_name", "threads", "precision")}
    tags |= {"notes": "; ".join(outcome["notes"])} if outcome["notes"] else {}
    for note in outcome["notes"]:
        say(f"{candidate.name}: {note}")
    patiently(lambda: tracking.log(root, run, metrics=numbers, tags=tags))
    return folder


def interrupted_otherwise(root: Path, candidate: Candidate) -> str:
    """The folder of another training of that variant that was interrupted, with checkpoints; "" where there is none."""
    own = folder_of(root, candidate)
    digits = own.name.removeprefix(f"{candidate.name}-")
    others = (path.parent for path in own.parent.glob(f"{candidate.name}-{'?' * len(digits)}/checkpoints"))
    return next((str(path.relative_to(root)) for path in sorted(others) if path != own), "")


def drop_checkpoints(root: Path, candidate: Candidate) -> None:
    """Once a variant's results are on record, they are of no use."""
    shutil.rmtree(folder_of(root, candidate) / "checkpoints", ignore_errors=True)


def _copy(root: Path, run: str, lines: Lines, held: set[tuple[str, int]]) -> str | None:
    """To MLflow what it lacks; what stands in the way where that may pass."""
    try:
        tracking.log_record(root, run, lines, held)
    except Exception as error:
        if not is_transient(error):
            raise
        return in_brief(error)
    return None
