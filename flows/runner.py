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

from flows.server import OWN, configured
from tasks.dvc_repo import push
from tasks.tracking_read import uri
from weathervane import project
from weathervane.errors import InputError
from weathervane.params import Strict, load

COMPUTE = Path("params/compute.yaml")
TRIES = 3  # of a training whose machine is gone
PATIENCE = 10.0  # seconds
SERVERS = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


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


def check_runner(root: Path) -> None:
    """Before anything runs: what params/compute.yaml asks for can be.

    Raises:
        InputError: the machines of a cluster could not reach the servers.
    """
    own = os.environ.get(OWN) or not configured() or not uri(root).startswith("http")
    if load(Compute, root / COMPUTE).runner == "ray" and own:
        raise InputError(
            f"{COMPUTE}: runner: ray needs PREFECT_API_URL and MLFLOW_TRACKING_URI, of servers that all machines of "
            "the cluster reach; 'weathervane up' has both"
        )


@contextmanager
def runner(root: Path) -> Iterator[Runner]:
    """The one that params/compute.yaml asks for.

    Raises:
        InputError: the cluster is not there, or DVC has no remote from which the data reaches it.
    """
    compute = load(Compute, root / COMPUTE)
    if compute.runner == "local":
        yield Runner(False, partial)
        return
    push(root, f"{project.RAW}.dvc")
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
        with remote_options(num_cpus=compute.cpus, num_gpus=compute.gpus, max_retries=TRIES):
            return ray.submit(task, arguments).result

    try:
        yield submit
    finally:
        ray.__exit__(None, None, None)


def servers() -> dict[str, str]:
    """What a task on another machine has to be told of them; Prefect's own settings go with its task."""
    return {name: value for name in SERVERS if (value := os.environ.get(name))}
