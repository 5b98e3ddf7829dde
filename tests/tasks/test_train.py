"""The step `train` and its child process: the time limit, and a child that hangs."""

import json
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import tasks.training_process
from benchmarks.drills.kill import small
from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.train import How, train
from weathervane.errors import TrainingError
from weathervane.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]
NOW, PLENTY = 0.0001, 10.0  # minutes


@pytest.fixture
def plan(store: Store) -> Plan:
    """One variant, of which nothing is on record."""
    candidate = Candidate("dnn", small("dnn"), "f" * 32, {}, "test")
    return Plan("test", "1" * 32 + ".dir", store.folder, 0, [candidate], older=False)


def opened(root: Path) -> str:
    return tracking.start_run(root, tracking.experiment(root, "test"), "dnn", {})


def test_at_its_limit_a_variant_fails_and_goes_on_with_a_higher_one(plan: Plan, tmp_path: Path) -> None:
    """The error names the limit, the epoch and the way out; the limit changes no fingerprint, so the next try with a
    higher one goes on from the checkpoint, in a run that has every epoch once."""
    (candidate,) = plan.candidates
    with pytest.raises(
        TrainingError, match=r"^dnn: the time limit of 0\.0001 minutes is reached in epoch 1 of 5; "
    ) as e:
        train.fn(tmp_path, plan, candidate, opened(tmp_path), How("cpu", NOW))
    assert "raise --time-limit, and the next retraining goes on from there" in str(e.value)
    run = opened(tmp_path)
    folder = train.fn(tmp_path, plan, candidate, run, How("cpu", PLENTY))
    outcome = json.loads((folder / "outcome.json").read_text())
    (note,) = outcome["notes"]
    assert note.startswith("went on in epoch 1, after step ") and note.endswith(" (bit-exact)")
    history = tracking.client(tmp_path).get_metric_history(run, "epoch/val_loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]


def test_checkpoints_that_nobody_goes_on_from_are_told(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an edit of the code, say, an interrupted training begins anew, and says why and where the other one is."""
    (candidate,) = plan.candidates
    for fingerprint in ("f" * 32, "e" * 32):
        with pytest.raises(TrainingError, match="the time limit"):
            train.fn(tmp_path, plan, replace(candidate, fingerprint=fingerprint), opened(tmp_path), How("cpu", NOW))
    told = "dnn: begun anew: what was interrupted is of other data, parameters or code (.weathervane/training/dnn-f"
    assert capsys.readouterr().out.count(told) == 1


def at_work(record: Path, send: signal.Signals, heard: list[psutil.Process]) -> threading.Thread:
    """Sends a signal to the training child once it has put an epoch on record."""

    def work() -> None:
        deadline = time.monotonic() + 60
        while not (record.is_file() and record.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        (child,) = (p for p in psutil.Process().children() if "weathervane.train" in p.cmdline())
        child.send_signal(send)
        heard.append(child)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def endless(plan: Plan) -> Candidate:
    (candidate,) = plan.candidates
    longer = candidate.variant.train.model_copy(update={"epochs": 1_000_000})
    return replace(candidate, variant=candidate.variant.model_copy(update={"train": longer}))


@pytest.mark.fault(35, drilled=10)
def test_a_child_that_hangs_is_ended_after_its_limit(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that was stopped, and so cannot watch the clock, is ended some time after the limit, which is told; what
    it had on record is in MLflow, and no process is left."""
    monkeypatch.setattr(tasks.training_process, "HUNG", 3.0)
    monkeypatch.setattr(tasks.training_process, "GRACE", 1.0)
    candidate, stopped = endless(plan), list[psutil.Process]()
    thread = at_work(tasks.training_process.folder_of(tmp_path, candidate) / "metrics.jsonl", signal.SIGSTOP, stopped)
    run = opened(tmp_path)
    with pytest.raises(TrainingError, match=r"^dnn: its process still ran 3 s after the time limit of 0\.1 min"):
        train.fn(tmp_path, plan, candidate, run, How("cpu", 0.1))
    thread.join()
    assert stopped and not stopped[0].is_running()
    assert "epoch/val_loss" in tracking.client(tmp_path).get_run(run).data.metrics


@pytest.mark.fault(35, drilled=10)
def test_a_child_that_is_killed_is_named(plan: Plan, tmp_path: Path) -> None:
    """As the kernel does when memory runs out: the variant and the signal are told, with the log; what was on record
    is in MLflow."""
    candidate, killed = endless(plan), list[psutil.Process]()
    thread = at_work(tasks.training_process.folder_of(tmp_path, candidate) / "metrics.jsonl", signal.SIGKILL, killed)
    run = opened(tmp_path)
    with pytest.raises(TrainingError, match=r"^dnn: .* was killed by signal 9 \(out of memory\?\): .*log\.txt$"):
        train.fn(tmp_path, plan, candidate, run, How("cpu", None))
    thread.join()
    assert "epoch/val_loss" in tracking.client(tmp_path).get_run(run).data.metrics
