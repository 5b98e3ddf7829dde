"""Where the trainings of a flow run: here, one after another, or on the machines of a Ray cluster, several at once."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from flows.prefect_settings import configured
from flows.server import OWN
from tasks.dvc_repo import push_version
from tasks.tracking_read import served, uri
from weathervane.errors import InputError
from weathervane.params import Strict, load

COMPUTE = Path("params/compute.yaml")
RETRIES = 3  # of a training whose machine is gone
PATIENCE = 10.0  # seconds
SERVERS = tuple(f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD", "TOKEN"))


class Compute(Strict):
    """params/compute.yaml."""

    runner: Literal["local", "ray"]
    ray_address: str = Field(pattern=r"^[\w.\-]+:\d+$")
    cpus: float = Field(gt=0)
    gpus: float = Field(ge=0)


# `submit(task, **arguments)` returns what waits for the task's result and returns it, or raises what it raised.
Submit = Callable[..., Callable[[], Any]]


@dataclass(frozen=True)
class Runner:
    """Who does what is submitted."""

    several: bool  # at once: what is submitted is at work; else when it is waited for
    submit: Submit

    def start(self, here: Any, elsewhere: Any, root: Path, **given: Any) -> Callable[[], Any]:
        """Submit the task for this machine or the one for others, which find the project and its servers otherwise."""
        if self.several:
            return self.submit(elsewhere, **given, servers=servers())
        return self.submit(here, **given, root=root)


def check_runner(root: Path) -> None:
    """Before anything runs: what params/compute.yaml asks for can be.

    Raises:
        InputError: the machines of a cluster could not reach the servers.
    """
    own = os.environ.get(OWN) or not configured() or not served(uri(root))
    if load(Compute, root / COMPUTE).runner == "ray" and own:
        raise InputError(
            f"{COMPUTE}: runner: ray needs PREFECT_API_URL and MLFLOW_TRACKING_URI, of servers that all machines of "
            "the cluster reach (docs/operations.md)"
        )


HERE = Runner(False, partial)


@contextmanager
def runner(root: Path, version: str) -> Iterator[Runner]:
    """The one that params/compute.yaml asks for; its machines can get the version of the data.

    Raises:
        InputError: the cluster is not there, or DVC has no remote from which the data reaches it.
    """
    compute = load(Compute, root / COMPUTE)
    if compute.runner == "local":
        yield HERE
        return
    push_version(root, version)
    with connected(compute) as submit:
        yield Runner(True, submit)


@contextmanager
def connected(compute: Compute) -> Iterator[Submit]:
    """A cluster of Ray, to which Prefect tasks can be submitted.

    Raises:
        InputError: none answers.
    """
    try:
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options
    except ImportError:
        raise InputError(f"{COMPUTE}: runner: ray needs the extra 'ray', which 'make setup' installs") from None
    ray = RayTaskRunner(compute.ray_address, {"log_to_driver": False, "configure_logging": False})
    try:
        host, _, port = compute.ray_address.rpartition(":")
        socket.create_connection((host, int(port)), PATIENCE).close()  # Ray itself tries for minutes
        ray.__enter__()
    except (OSError, RuntimeError, ValueError) as error:
        where = f"{COMPUTE}: ray_address: {compute.ray_address}"
        raise InputError(f"{where}: no cluster of Ray answers there: {error}") from None

    def submit(task: Any, **arguments: Any) -> Callable[[], Any]:
        with remote_options(num_cpus=compute.cpus, num_gpus=compute.gpus, max_retries=RETRIES):
            return ray.submit(task, arguments).result

    try:
        _check_room(compute)
        yield submit
    finally:
        ray.__exit__(None, None, None)


def _check_room(compute: Compute) -> None:
    """Ray waits for ever for what no machine has."""
    import ray

    nodes: Any = ray.nodes
    found = [node["Resources"] for node in nodes() if node["Alive"]]
    if not any(one.get("CPU", 0) >= compute.cpus and one.get("GPU", 0) >= compute.gpus for one in found):
        held = "; ".join(f"{one.get('CPU', 0):g} and {one.get('GPU', 0):g}" for one in found)
        raise InputError(
            f"{COMPUTE}: cpus: {compute.cpus:g}, gpus: {compute.gpus:g}: no machine of the cluster has as many "
            f"(they have {held})"
        )


def servers() -> dict[str, str]:
    """What a task on another machine has to be told of them; Prefect's own settings go with its task."""
    return {name: value for name in SERVERS if (value := os.environ.get(name))}
