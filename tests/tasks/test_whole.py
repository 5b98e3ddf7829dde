"""A signal ends the waiting for MLflow, never a transaction of it."""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from tasks import tracking
from tasks.whole import whole

TRIALS = 100


class Interrupted(BaseException):
    """As Ctrl-C's and Prefect's own, no Exception."""


@pytest.fixture(autouse=True)
def _interrupted() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def interrupt_after(seconds: float) -> None:
    """Sends this process a signal, soon."""
    Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1)).start()


@pytest.mark.fault(32, trials=TRIALS)
@pytest.mark.usefixtures("database")
def test_whoever_is_interrupted_while_it_logs_leaves_the_database_unlocked(tmp_path: Path) -> None:
    """A retraining that is stopped can close its runs at once: nothing holds MLflow's database, no signal is lost, and
    what was logged is there whole."""
    run = tracking.start_run(tmp_path, tracking.experiment(tmp_path, "weather"), "training", {})
    metrics = {f"of class {number}": 0.5 for number in range(8)}
    epoch = 0
    for trial in range(TRIALS):
        with pytest.raises(Interrupted):
            interrupt_after(0.02 * trial / TRIALS)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                epoch += 1
                tracking.log_record(tmp_path, run, [{"epoch": epoch, "time": 0.0, "metrics": metrics}], set())
        with closing(sqlite3.connect(tmp_path / "mlflow.db", timeout=5, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
    tracking.end_run(tmp_path, run, "KILLED")
    with closing(
        sqlite3.connect(tmp_path / "mlflow.db")
    ) as database:  # at one moment: the last call may still be at it
        held = dict(database.execute("SELECT key, count(*) FROM metrics WHERE run_uuid = ? GROUP BY key", [run]))
    assert {f"epoch/{key}" for key in metrics} <= held.keys() and len(set(held.values())) == 1
    assert tracking.client(tmp_path).get_run(run).info.status == "KILLED"


def test_what_was_begun_comes_to_its_end(tmp_path: Path) -> None:
    """The caller goes on at once; an error is the caller's, as if it had called by itself."""
    done = tmp_path / "done"

    def slow() -> None:
        time.sleep(0.5)
        done.touch()

    with pytest.raises(Interrupted):
        interrupt_after(0.1)
        whole(slow)
    assert not done.exists()
    deadline = time.monotonic() + 10
    while not done.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(FileExistsError):
        whole(done.mkdir)
    assert whole(sorted, [2, 1], reverse=True) == [2, 1]


def test_a_signal_while_a_call_begins_leaves_no_thread_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is made all the same, and its thread ends: one that waits for more keeps the process from ending."""
    made, before, start = list[int](), set(threading.enumerate()), threading._start_new_thread

    def start_and_interrupt(*arguments: Any) -> int:
        started = start(*arguments)
        os.kill(os.getpid(), signal.SIGUSR1)
        return started

    monkeypatch.setattr(threading, "_start_new_thread", start_and_interrupt)
    with pytest.raises(Interrupted) as caught:  # whose traceback holds on to what was begun, as a flow's state does
        whole(made.append, 1)
    monkeypatch.undo()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [1] and set(threading.enumerate()) <= before and caught
