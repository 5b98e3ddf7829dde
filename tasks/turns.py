"""Whose turn it is: one retraining of a dataset at a time on a Prefect server, and late schedules as one run.

`tasks.locks` holds this clone's lock. A server that several clones work for has a global concurrency limit besides.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

from httpx import HTTPError
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectHTTPStatusError

from tasks.tags import HOLDS, OF
from weathervane.progress import say

LEASE = 60.0  # seconds after which the place of a run that is gone is free again
FORGOTTEN = 100.0  # seconds after which no lease can be left
PATIENCE = 5.0  # seconds between two looks at who holds it
DUE = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
RUNNING = FlowRunFilterStateType(any_=[StateType.RUNNING])


def superseded() -> str | None:
    """Why a run of a schedule need not work: a later one of the same schedule is due as well. None: it has to.

    After a night in which no worker was there, all runs that were missed start at once; the last one is enough.
    """
    if not runtime.flow_run.id:
        return None
    with get_client(sync_client=True) as prefect:
        mine = prefect.read_flow_run(runtime.flow_run.id)
        if not mine.auto_scheduled or not mine.deployment_id or not mine.expected_start_time:
            return None
        found = prefect.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[mine.deployment_id])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=DUE),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
    due = [run for run in found if run.auto_scheduled and run.created_by == mine.created_by]
    last = max(due, key=_order, default=mine)
    if _order(last) <= _order(mine):
        return None
    return f"the run of {last.expected_start_time:%Y-%m-%d %H:%M} UTC, {last.name}, is due as well"


def tell_dataset(dataset: str) -> None:
    """Label this flow run, so that whoever follows it finds its run in MLflow; a server that is away goes without."""
    if runtime.flow_run.id:
        with suppress(HTTPError, PrefectHTTPStatusError), get_client(sync_client=True) as prefect:
            prefect.update_flow_run_labels(runtime.flow_run.id, {OF: dataset})


@contextmanager
def one_at_a_time(dataset: str) -> Iterator[None]:
    """Holds the dataset's place on the Prefect server; waits, and says for whom.

    Of a run that was killed it is free when its lease ends. A server that was started anew may have forgotten the
    lease, and would keep the place for ever: after longer than any lease lasts, with nobody at work, it is freed here.
    """
    name, since, told = f"retrain-{dataset}", time.monotonic(), False
    with get_client(sync_client=True) as prefect, ExitStack() as stack:
        prefect.upsert_global_concurrency_limit_by_name(name, 1)
        while True:
            try:
                stack.enter_context(
                    concurrency(
                        name,
                        strict=True,
                        lease_duration=LEASE,
                        timeout_seconds=PATIENCE,
                        raise_on_lease_renewal_failure=False,  # hours of training outlive a server's restart
                    )
                )
                break
            except TimeoutError:
                holders = _holders(prefect, dataset)
            if not told:
                who = (
                    " and ".join(f"flow run {run.name}" for run in holders) or f"one that is gone, {LEASE:g} s at most"
                )
                say(f"waiting for another retraining of {dataset}: {who}")
                told = True
            if holders:
                since = time.monotonic()
            elif time.monotonic() - since > FORGOTTEN:
                prefect.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))
        prefect.update_flow_run_labels(runtime.flow_run.id, {HOLDS: dataset})
        yield


def _holders(prefect: SyncPrefectClient, dataset: str) -> list[FlowRun]:
    found = prefect.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain"])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=RUNNING)),
    )
    return [run for run in found if run.labels.get(HOLDS) == dataset]


def _order(run: FlowRun) -> tuple[datetime, str]:
    return run.expected_start_time or datetime.min.replace(tzinfo=UTC), str(run.id)
