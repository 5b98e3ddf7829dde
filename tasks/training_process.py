"""A training in a child process, which a crash or a lack of memory ends alone."""

import json
import logging
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.retries import patiently
from weathervane import lifeline, project
from weathervane.errors import InputError, TrainingError, in_brief
from weathervane.files import replacing
from weathervane.folds import VALIDATION
from weathervane.progress import bar, say
from weathervane.train import Job

POLL = 0.5  # seconds
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
HUNG = 300.0  # seconds after its time limit when a child that has not ended by itself is ended
ON_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}

Lines = list[dict[str, Any]]


def folder_of(root: Path, candidate: Candidate) -> Path:
    """Where a variant is trained: an equal fingerprint is the same training, and goes on with its checkpoints."""
    return root / project.TRAINING / f"{candidate.name}-{candidate.fingerprint[:12]}"


def run_of(folder: Path) -> str | None:
    """The MLflow run that a training folder belongs to; None where it does not say."""
    try:
        return str(json.loads((folder / "job.json").read_text(encoding="utf-8"))["about"]["mlflow_run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def job_of(root: Path, plan: Plan, candidate: Candidate, run: str, device: str, **more: Any) -> Job:
    """A variant that is trained for the MLflow run `run`; `more` of what a job says."""
    tags = patiently(lambda: tracking.client(root).get_run(run)).data.tags
    about = {"data_md5": plan.data_md5, "dataset": plan.dataset, "mlflow_run_id": run}
    return Job(
        name=candidate.name,
        variant=candidate.variant,
        data=str(plan.prepared),
        device=device,
        seed=plan.seed,
        fold=VALIDATION,
        threads=0,
        about=about | {key: tags[key] for key in ("git_commit", "git_dirty") if key in tags},
        **more,
    )


def command(folder: Path, processes: int) -> list[str]:
    """The module that trains the job in `folder`, with its arguments; several processes are torchrun's."""
    if processes == 1:
        return ["weathervane.train", str(folder)]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return ["weathervane.lifeline", *torchrun, "-m", "weathervane.train", str(folder)]


def train_in_child(
    root: Path,
    folder: Path,
    job: Job,
    name: str,
    watch: Callable[[Lines, bool], None],
    processes: int = 1,
) -> dict[str, Any]:
    """Train the job in `folder`, or go on where an interrupted training was; what outcome.json says.

    Args:
        name: what a person is told that it is.
        watch: is given the record so far, again and again; and once more, with True, when the child has ended.
        processes: that train it together, on this machine.

    Raises:
        InputError: bad input that only the child could notice, such as a device that is not there.
        TrainingError: the training failed, or its process died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in ("outcome.json", "error.json"):
        (folder / leftover).unlink(missing_ok=True)
    with replacing(folder / "job.json") as file:
        file.write(job.model_dump_json(indent=1))
    # The child watches the clock itself, but for one that is stopped or stuck in native code.
    limit = job.time_limit
    deadline, hung = time.monotonic() + (60 * limit + HUNG if limit else math.inf), False
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *command(folder, processes)],
            cwd=root,
            env=lifeline.environment() | (ON_LOOPBACK if processes > 1 else {}),
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the flow, which then ends its child in its own way
        )
        try:
            with bar(f"train {name}", job.variant.train.epochs) as step:
                shown = 0
                while child.poll() is None and not (hung := time.monotonic() > deadline):
                    lines = record(folder)
                    for line in lines[shown:]:
                        step(note=f"val accuracy {line['metrics']['val_accuracy']:.3f}")
                    shown = max(shown, len(lines))
                    watch(lines, False)
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(POLL)
        except KeyboardInterrupt:
            say(f"train {name}: stops when its checkpoint is written")
            raise
        finally:
            _end(child)
    try:
        watch(record(folder), True)
    except Exception as error:
        if not (hung or child.returncode):
            raise
        say(f"{name}: the record is not whole: {in_brief(error)}", logging.WARNING)  # and why it ended is told below
    if hung:
        raise TrainingError(
            f"{name}: its process still ran {HUNG:.0f} s after the time limit of {limit:g} minutes, and was ended; the "
            "next retraining goes on from its checkpoint"
        )
    if child.returncode:
        raise _failure(folder, child.returncode, name)
    return dict(json.loads((folder / "outcome.json").read_text(encoding="utf-8")))


def record(folder: Path, name: str = "metrics.jsonl") -> Lines:
    """The complete lines of a training's record; a child that goes on from a checkpoint shortens the file first."""
    path = folder / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _failure(folder: Path, status: int, name: str) -> Exception:
    if (folder / "error.json").is_file():
        told = json.loads((folder / "error.json").read_text(encoding="utf-8"))
        if told["status"] == 3:
            why = "somebody interrupted its process; the next retraining goes on from its checkpoint"
            return TrainingError(f"{name}: {why}")
        return (InputError if told["status"] == 2 else TrainingError)(f"{name}: {told['error']}")
    said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()
    if ended := re.findall(r"exitcode +: (-?\d+)", said):  # torchrun's own account of its processes
        status, said = int(ended[-1]), said.partition("torch.distributed.elastic")[0].strip()
    last = said.splitlines()[-1:]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = " (out of memory?)" if status == -9 else ""
    return TrainingError(
        f"{name}: the training process {how}{hint}: {' '.join(last) or 'it said nothing'}; see {folder}/log.txt"
    )
