"""Runs whose process is gone: MLflow and Prefect both leave them running for ever, so every start ends them.

A run is dead if its owner's process (host, boot, number, start) is gone; of another host, if its flow run has ended.
"""

from pathlib import Path

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from tasks import tracking
from tasks.retries import RETRY
from tasks.step import step
from tasks.tags import KINDS, MONITORING, OWNER
from tasks.tracking_read import Run, running, uri
from weathervane.owner import gone, here, in_words, me
from weathervane.progress import say


@step(name="end dead runs", **RETRY)
def end_dead_runs(root: Path) -> list[str]:
    """End dead runs in Prefect and in MLflow, with the reason; what was ended, in words.

    In a flow, its own run is claimed first.
    """
    with get_client(sync_client=True) as prefect:
        if runtime.flow_run.id:
            prefect.update_flow_run_labels(runtime.flow_run.id, {OWNER: me()})
        told = _in_prefect(prefect) + _in_mlflow(root, prefect)
    for line in told:
        say(line)
    return told


def _in_prefect(prefect: SyncPrefectClient) -> list[str]:
    at_work = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED])
    found = prefect.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain", "crossval"])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=at_work)),
    )
    told = []
    for run in found:
        owner = str(run.labels.get(OWNER, ""))
        if owner and gone(owner) and run.state_name != "Suspended":  # at which nobody works on purpose
            prefect.set_flow_run_state(run.id, Crashed(message=_why(owner)), force=True)
            told.append(f"Prefect's flow run {run.name} ended as crashed: {_why(owner)}")
    return told


def _in_mlflow(root: Path, prefect: SyncPrefectClient) -> list[str]:
    told, ended = [], set()
    at_work = running(uri(root))
    for run in at_work:
        if run.tags.get("kind") in (*KINDS, MONITORING) and (why := _dead(run, prefect)):
            ended.add(run.run_id)
            told += _end(root, run, why)
    alive = {run.run_id for run in at_work} - ended
    for run in at_work:
        if run.tags.get("kind") in KINDS.values() and run.tags.get("mlflow.parentRunId") not in alive:
            told += _end(root, run, "the run that it belongs to has ended")
    return told


def _dead(run: Run, prefect: SyncPrefectClient) -> str | None:
    owner, flow_run = run.tags.get("owner", ""), run.tags.get("prefect_flow_run_id", "")
    if gone(owner):
        return _why(owner)
    if here(owner):  # and at work, whatever the server thinks of it: the machine may have been asleep
        return None
    try:
        state = prefect.read_flow_run(flow_run).state if flow_run else None
    except ObjectNotFound:  # of another Prefect server
        return None
    return f"its flow run ended as {state.name}" if state and state.is_final() else None


def _end(root: Path, run: Run, why: str) -> list[str]:
    if tracking.client(root).get_run(run.run_id).info.status != "RUNNING":
        return []  # somebody has ended it since it was listed
    tracking.log(root, run.run_id, tags={"failure": why})
    tracking.end_run(root, run.run_id, "KILLED")
    return [f"MLflow's run {run.name} ({run.run_id}) ended as killed: {why}"]


def _why(owner: str) -> str:
    return f"its {in_words(owner)} is gone"
