"""`weathervane runs`: runs that nobody works at any more."""

from contextlib import ExitStack

from flows.server import own_server
from tasks.tracking_read import tracked_root
from weathervane.progress import say


def clean() -> None:
    """End the runs whose process is gone, in MLflow and in Prefect, with the reason."""
    root = tracked_root()
    with ExitStack() as stack:
        if server := own_server(root, stack):
            server.wait()
        from tasks.dead_runs import end_dead_runs

        if not end_dead_runs.fn(root):
            say("no run is dead")
