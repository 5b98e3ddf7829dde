"""The step `train`: one variant in a child process; its own record of metrics is copied to MLflow meanwhile."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.plan import Candidate, Plan
from weathervane import lifeline, project
from weathervane.errors import InputError, TrainingError, masked
from weathervane.files import replacing
from weathervane.progress import bar, say

POLL = 0.5  # seconds
GRACE = 10.0  # seconds between asking a child to leave and making it


@task(name="train", task_run_name="train {candidate.name}", cache_policy=NO_CACHE)
def train(root: Path, plan: Plan, candidate: Candidate, run: str, device: str) -> Path:
    """Train a variant; the folder that holds model/ and outcome.json.

    Raises:
        InputError: bad input that only the child could notice, such as a device that is not there.
        TrainingError: the training failed, or its process died.
    """
    folder = root / project.TRAINING / f"{candidate.name}-{candidate.fingerprint[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("outcome.json", "error.json", "metrics.jsonl"):
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
        "about": about | _commit(root, run),
    }
    with replacing(folder / "job.json") as file:
        json.dump(job, file, indent=1)
    _run_child(root, candidate, run, folder)
    outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    numbers = {f"train/{key}": value for key, value in outcome.items() if isinstance(value, int | float)}
    tags = {key: str(outcome[key]) for key in ("device", "device_name", "threads")}
    tracking.log(root, run, metrics=numbers, tags=tags)
    return folder


def _run_child(root: Path, candidate: Candidate, run: str, folder: Path) -> None:
    command = [sys.executable, "-m", "weathervane.train", str(folder)]
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
            with open(folder / "metrics.jsonl", "a+", encoding="utf-8") as record:
                record.seek(0)
                with bar(f"train {candidate.name}", candidate.variant.train.epochs) as step:
                    while child.poll() is None:
                        _copy_what_can_be(root, run, record, step)
                        time.sleep(POLL)
                    _copy(root, run, record, step)
        finally:
            _end(child)
    if child.returncode:
        raise _failure(folder, child.returncode, candidate.name)


def _copy_what_can_be(root: Path, run: str, record: IO[str], step: Any) -> None:
    """While the child works: a server that is gone for a moment holds nothing up; the lines stay where they are."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        _copy(root, run, record, step)
    except (MlflowException, RequestException) as error:
        say(f"metrics wait for the tracking server: {masked(str(error).splitlines()[0])[:200]}")


def _copy(root: Path, run: str, record: IO[str], step: Any) -> None:
    """Complete new lines of metrics.jsonl to MLflow, one epoch a step."""
    while True:
        place = record.tell()
        line = record.readline()
        if not line.endswith("\n"):
            record.seek(place)
            return
        content = json.loads(line)
        metrics = {f"epoch/{key}": value for key, value in content["metrics"].items()}
        try:
            tracking.log(root, run, metrics=metrics, step=content["epoch"])
        except BaseException:
            record.seek(place)
            raise
        step(note=f"val accuracy {content['metrics']['val_accuracy']:.3f}")


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
    last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = " (out of memory?)" if status == -9 else ""
    return TrainingError(
        f"{name}: the training process {how}{hint}: {' '.join(last) or 'it said nothing'}; see {folder}/log.txt"
    )


def _commit(root: Path, run: str) -> dict[str, str]:
    tags = tracking.client(root).get_run(run).data.tags
    return {key: tags[key] for key in ("git_commit", "git_dirty") if key in tags}
