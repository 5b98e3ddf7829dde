"""What the machine does while a variant trains: MLflow's own monitor, as `system/…` metrics of its run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.tracking_read import uri
from tasks.whole import whole

EVERY = 5.0  # seconds between two samples, unless MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says otherwise


@contextmanager
def watched(root: Path, run: str) -> Iterator[None]:
    """Sample processor, memory, disk, network and, where pynvml is there, GPUs of this machine, all of its processes.

    A continued run's samples go on where they stopped. A tracking server that is gone ends the sampling, not
    the block.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # it tells when it starts and ends
    monitor = SystemMetricsMonitor(run, sampling_interval=EVERY, resume_logging=True, tracking_uri=uri(root))
    monitor.start()
    try:
        yield
    finally:
        whole(monitor.finish)
