"""The step `train`: one variant in a child process; its own record of metrics is copied to MLflow meanwhile."""

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.momentary import in_brief, may_pass, patiently
from tasks.plan import Candidate, Plan
from tasks.step import step
from tasks.system import watched
from weathervane import lifeline, project
from weathervane.errors import InputError, TrainingError
from weathervane.files import replacing
from weathervane.progress import bar, say

POLL = 0.5  # seconds
GRACE = 10.0  # seconds between asking a child to leave and making it
HUNG = 300.0  # seconds after its time limit when a child that has not ended by itself is ended


@step(name="train", task_run_name="train {candidate.name}")
def train(root: Path, plan: Plan, candidate: Candidate, run: str, device: str, time_limit: float | None = None) -> Path:
    """Train a variant, or go on where an interrupted training was; the folder that holds model/ and outcome.json.

    `time_limit` is minutes, all tries together; it is no part of the fingerprint, so that a higher one goes on with the
    same training.

    Raises:
        InputError: bad input that only the child could notice, such as a device that is not there.
        TrainingError: the training failed or reached the limit, or its process died or hung.
    """
    folder = folder_of(root, candidate)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("outcome.json", "error.json"):
        (folder / name).unlink(missing_ok=True)
    about = {"data_md5": plan.data_md5, "dataset": plan.dataset, "mlflow_run_id": run}
    job = {
        "name": candidate.name,
        "variant": candidate.variant.model_dump(mode="json"),
        "data": str(plan.prepared),
        "device": device,
        "seed": plan.seed,
        "fold": 0,
        "threads": 0,
        "time_limit": time_limit,
        "about": about | _commit(root, run),
    }
    with replacing(folder / "job.json") as file:
        json.dump(job, file, indent=1)
    with watched(root, run):
        _run_child(root, candidate, run, folder, time_limit)
    outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    numbers = {f"train/{key}": value for key, value in outcome.items() if isinstance(value, int | float)}
    tags = {key: str(outcome[key]) for key in ("device", "device_name", "threads")}
    tags["notes"] = "; ".join(outcome["notes"])
    for note in outcome["notes"]:
        say(f"{candidate.name}: {note}")
    patiently(lambda: tracking.log(root, run, metrics=numbers, tags=tags))
    return folder


def folder_of(root: Path, candidate: Candidate) -> Path:
    """Where a variant is trained: an equal fingerprint is the same training, and goes on with its checkpoints."""
    return root / project.TRAINING / f"{candidate.name}-{candidate.fingerprint[:12]}"


def drop_checkpoints(root: Path, candidate: Candidate) -> None:
    """Once a variant's results are on record, they are of no use."""
    shutil.rmtree(folder_of(root, candidate) / "checkpoints", ignore_errors=True)


def _run_child(root: Path, candidate: Candidate, run: str, folder: Path, time_limit: float | None) -> None:
    command = [sys.executable, "-m", "weathervane.train", str(folder)]
    held = patiently(lambda: tracking.recorded(root, run))
    # The child watches the clock itself, but for one that is stopped or stuck in native code.
    deadline, hung = time.monotonic() + (60 * time_limit + HUNG if time_limit else math.inf), False
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        child = subprocess.Popen(
            command,
            cwd=root,
            env=lifeline.environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the flow, which then ends its child in its own way
        )
        try:
            with bar(f"train {candidate.name}", candidate.variant.train.epochs) as step:
                shown, told = 0, None
                while child.poll() is None and not (hung := time.monotonic() > deadline):
                    lines = _record(folder)
                    for line in lines[shown:]:
                        step(note=f"val accuracy {line['metrics']['val_accuracy']:.3f}")
                    shown = max(shown, len(lines))
                    trouble = _copy(root, run, lines, held)
                    if trouble and not told:  # nothing is held up by a server that is gone
                        say(f"metrics wait for the tracking server: {trouble}")
                    told = trouble
                    time.sleep(POLL)
        finally:
            _end(child)
    patiently(lambda: tracking.log_record(root, run, _record(folder), held))
    if hung:
        raise TrainingError(
            f"{candidate.name}: its process still ran {HUNG:.0f} s after the time limit of {time_limit:g} minutes, "
            "and was ended; the next retraining goes on from its checkpoint"
        )
    if child.returncode:
        raise _failure(folder, child.returncode, candidate.name)


def _record(folder: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl; a child that goes on from a checkpoint shortens the file first."""
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _copy(root: Path, run: str, lines: list[dict[str, Any]], held: set[tuple[str, int]]) -> str | None:
    """To MLflow what it lacks; what stands in the way where that may pass."""
    try:
        tracking.log_record(root, run, lines, held)
    except Exception as error:
        if not may_pass(error):
            raise
        return in_brief(error)
    return None


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _failure(folder: Path, status: int, name: str) -> Exception:
    told = folder / "error.json"
    if told.is_file():
        message = f"{name}: {json.loads(told.read_text(encoding='utf-8'))['error']}"
        return InputError(message) if status == 2 else TrainingError(message)
    if status == 3:
        return TrainingError(
            f"{name}: somebody interrupted its process; the next retraining goes on from its checkpoint"
        )
    last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = " (out of memory?)" if status == -9 else ""
    return TrainingError(
        f"{name}: the training process {how}{hint}: {' '.join(last) or 'it said nothing'}; see {folder}/log.txt"
    )


def _commit(root: Path, run: str) -> dict[str, str]:
    tags = patiently(lambda: tracking.client(root).get_run(run)).data.tags
    return {key: tags[key] for key in ("git_commit", "git_dirty") if key in tags}
