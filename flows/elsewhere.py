"""A variant, a fold or a shard of pixels on another machine: in that machine's clone, on data from DVC's remote."""

import os
import platform
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from flows.environment import told_in_prefect
from flows.runner import COMPUTE, Compute, runner
from flows.variant import train_and_evaluate
from tasks.crossval import Fold, train_fold
from tasks.data import prepared_copy, raw_copy
from tasks.dvc_lock import md5_of_prepared, raw_md5
from tasks.plan import Candidate, Plan, Result
from tasks.step import step
from tasks.train import How
from weathervane import project
from weathervane.errors import InputError
from weathervane.fingerprint import ingredients
from weathervane.ledger import Row
from weathervane.params import load
from weathervane.prepare import Decode, Pixels, Prepare, decoded, decoded_here, made_of

CLONE = "WEATHERVANE_CLONE"  # set where a machine's part of the cluster is started; else the driver's folder is meant
AHEAD = 8  # shards that are decoded before they are needed


@step(name="variant", task_run_name="{candidate.name}")
def variant_elsewhere(plan: Plan, candidate: Candidate, run: str, how: How, servers: dict[str, str]) -> Result:
    """Train and evaluate a variant; begun anew where its machine is gone, it comes to the same."""
    with at_home(servers) as root:
        return train_and_evaluate(root, here(root, plan, candidate), candidate, run, how)


@step(name="fold", task_run_name="{candidate.name}, fold {fold}")
def fold_elsewhere(plan: Plan, candidate: Candidate, fold: int, run: str, device: str, servers: dict[str, str]) -> Fold:
    """Train a variant without a fold and predict that."""
    with at_home(servers) as root:
        found: Fold = train_fold(root, here(root, plan, candidate), candidate, fold, run, device)
        return found


@step(name="shard")
def shard_elsewhere(params: Prepare, version: str, rows: list[Row], mark: str, servers: dict[str, str]) -> np.ndarray:
    """uint8 [N, image_size, image_size, 3], the pixels of these images of a version of the data."""
    with at_home(servers) as root:
        if made_of(params, rows) != mark:
            raise InputError(f"{root} on {platform.node()}: decodes by other code: 'git pull' and 'make setup' there")
        return np.stack(list(decoded(params, raw_copy(root, version), rows)))


def decoder(root: Path, servers: dict[str, str]) -> Decode:
    """What decodes the shards of prepare: this process, or the machines of the cluster of params/compute.yaml."""
    if load(Compute, root / COMPUTE).runner == "local":
        return decoded_here

    def decode(params: Prepare, _: Path, shards: list[list[Row]]) -> Pixels:
        with runner(root, str(raw_md5(root))) as place:
            told = {"params": params, "version": raw_md5(root), "servers": servers}
            waiting = deque[Callable[[], np.ndarray]]()
            for rows in shards:
                waiting.append(place.submit(shard_elsewhere, **told, rows=rows, mark=made_of(params, rows)))
                if len(waiting) > AHEAD:
                    yield from waiting.popleft()()
            while waiting:
                yield from waiting.popleft()()

    return decode


@contextmanager
def at_home(servers: dict[str, str]) -> Iterator[Path]:
    """This machine's clone, with what is said told in Prefect."""
    os.environ |= servers
    with told_in_prefect():
        yield project.root(Path(os.environ[CLONE]) if CLONE in os.environ else None)


def here(root: Path, plan: Plan, candidate: Candidate) -> Plan:
    """The plan on this clone's copy of the data.

    Raises:
        InputError: what would train here is not what the plan was made with.
    """
    needed = ingredients(candidate.variant, candidate.ingredients["data"], plan.seed)
    if other := [name for name, found in needed.items() if found != candidate.ingredients[name]]:
        raise InputError(
            f"{root} on {platform.node()}: other {' and '.join(other)} than where the flow runs: 'git pull' and "
            "'make setup' there"
        )
    prepared = prepared_copy(root, plan.data_md5)
    if md5_of_prepared(root, prepared.parents[1]) != candidate.ingredients["data"]:
        raise InputError(
            f"{root} on {platform.node()}: its params/prepare.yaml or its Pillow makes other pixels: 'git pull' there"
        )
    return replace(plan, prepared=prepared)
