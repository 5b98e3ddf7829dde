"""What the machine does while a variant trains is on its run."""

import time
from pathlib import Path

import pytest

from tasks import tracking
from tasks.system import watched

pytestmark = pytest.mark.usefixtures("database")


def test_samples_are_on_the_run_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Processor and memory by step, without a word on the terminal; a continued run repeats no step."""
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    client, run = tracking.client(tmp_path), tracking.start_run(tmp_path, tracking.experiment(tmp_path, "t"), "r", {})
    capfd.readouterr()
    counts = []
    for _ in range(2):
        with watched(tmp_path, run):
            time.sleep(1.5)
        history = client.get_metric_history(run, "system/cpu_utilization_percentage")
        counts.append(len(history))
    assert 1 <= counts[0] < counts[1]
    assert [point.step for point in history] == list(range(counts[1]))
    assert client.get_metric_history(run, "system/system_memory_usage_megabytes")[0].value > 50
    assert "".join(capfd.readouterr()) == ""


def test_an_error_in_the_block_ends_the_sampling(tmp_path: Path) -> None:
    """The training's error comes out, and nothing goes on writing to its run."""
    import threading

    run = tracking.start_run(tmp_path, tracking.experiment(tmp_path, "t"), "r", {})
    with pytest.raises(ZeroDivisionError), watched(tmp_path, run):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
