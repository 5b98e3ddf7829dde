"""`weathervane runs`: runs that nobody works at any more."""

import os

from flows.environment import apply
from flows.server import LocalServer, check, configured
from tasks.tracking_read import check_server, uri
from weathervane import project
from weathervane.progress import say


def clean() -> None:
    """End the runs whose process is gone, in MLflow and in Prefect, with the reason."""
    root = project.root()
    apply()
    check_server(uri(root))
    if address := configured():
        check(address)
        _end_dead_runs()
        return
    with LocalServer.start(root / project.LOGS / "prefect-server.log") as server:
        os.environ["PREFECT_API_URL"] = server.url
        server.wait()
        _end_dead_runs()


def _end_dead_runs() -> None:
    from tasks.dead_runs import end_dead_runs

    if not end_dead_runs.fn(project.root()):
        say("no run is dead")
