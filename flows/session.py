"""What a command or a notebook does round a flow of its own: look round first, boot a server beside the imports."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from flows.runner import COMPUTE, Compute, check_runner
from flows.server import LocalServer
from tasks import tracking
from tasks.data import prepare_and_record
from tasks.dvc_lock import stale_because
from tasks.tracking_read import check_server, uri
from weathervane import project
from weathervane.params import load
from weathervane.progress import say


@contextmanager
def going_on() -> Iterator[None]:
    """Tell who presses Ctrl-C that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted: what is done is kept, and the same command goes on from there")
        raise


def check_surroundings(root: Path, device: str) -> None:
    """Before hours of work: the device, the folders and the tracking server are there."""
    if device not in ("auto", "cpu"):
        from weathervane.device import choose

        choose(device)
    check_runner(root)
    project.check_writable(root)
    check_server(uri(root))


def ready(root: Path, server: LocalServer | None, flow: str) -> None:
    """Returns once a server of our own is healthy. Its boot leaves a core free: the module of the flow, and with it
    Prefect, is imported meanwhile, and MLflow's client.

    Raises:
        ServerError: it did not come up.
    """
    if server:
        import_module(flow)
        tracking.client(root)
        server.wait()


def prepare_here(root: Path) -> bool:
    """Prepare, unless a cluster's machines are to decode, which the flow has them do; whether it is done."""
    if load(Compute, root / COMPUTE).runner == "local":
        prepare_and_record(root)
    return stale_because(root, "prepare") is None
