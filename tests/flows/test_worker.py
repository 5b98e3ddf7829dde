"""`weathervane worker`: what becomes of the flow runs of a worker that died."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.worker import Worker
from tests.flows.team import until
from weathervane.open_files import held

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STARTS_A_RUN = f"import subprocess; subprocess.run({SLEEP}, start_new_session=True)"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "at_work.py").write_text(STARTS_A_RUN)
    with Worker("The worker", ["at_work"], tmp_path / "worker.log", cwd=tmp_path) as worker:
        yield worker


def killed(worker: Worker) -> psutil.Process:
    """The flow run that it leaves at work."""
    (run,) = until(psutil.Process(worker.process.pid).children, "a flow run")
    worker.look()
    worker.process.kill()
    worker.process.wait()
    worker.end_session()
    return run


def test_its_flow_runs_go_on_until_it_is_stopped(worker: Worker) -> None:
    """A killed worker is started again beside the retraining that it left; Ctrl-C of `up` then ends both. Until then
    `clean` leaves their log alone."""
    run = killed(worker)
    assert run.is_running() and held(worker.log)
    worker.stop()
    assert not run.is_running() and not held(worker.log)


def test_whoever_has_its_number_now_is_left_alone(worker: Worker) -> None:
    """Numbers of processes are used again: what another process with that of a dead worker started is not ended."""
    killed(worker)
    with subprocess.Popen(SLEEP) as foreign:
        worker.process.pid = os.getpid()
        worker.stop()
        alive = foreign.poll() is None
        foreign.kill()
    assert alive


def test_a_flow_run_that_heeds_no_signal_ends_too(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the clone's lock, and go on against servers that are gone."""
    monkeypatch.setattr("flows.worker.GRACE", 0.2)
    run = killed(worker)
    run.suspend()  # SIGTERM waits until it is woken up
    worker.stop()
    run.wait(10)
