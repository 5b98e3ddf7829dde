"""`weathervane trigger`: a run of a deployment on the team's server, followed from the terminal."""

import logging
import os
import time
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from httpx import HTTPStatusError, TransportError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, LogFilter, LogFilterFlowRunId, LogFilterTimestamp
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_UI_URL

from flows.prefect_settings import check, required
from tasks.tags import HOLDS, OF
from tasks.tracking_read import page, runs
from weathervane.errors import InputError, masked
from weathervane.progress import as_json, console, logger, say

POLL = 2.0  # seconds
PREFECTS = ("prefect.flow_runs", "prefect.task_runs")  # they say with a traceback what the state says in a line


def trigger(flow: str, parameters: dict[str, Any], wait: bool) -> int:
    """Start a run, print where it is seen, and `wait` for it; the exit status: 0 done or started, 1 it failed.

    Raises:
        InputError: no server, no such deployment, or parameters that it refuses; nothing was started.
    """
    check(required())
    with get_client(sync_client=True) as prefect:
        deployment = _deployment(prefect, flow)
        _check(flow, deployment, parameters)
        try:
            once = str(uuid4())  # the client asks again where an answer was lost
            run = prefect.create_flow_run_from_deployment(deployment.id, parameters=parameters, idempotency_key=once)
        except PrefectHTTPStatusError as error:
            raise InputError(f"{flow}: refused: {_detail(error)}") from None
        say(f"flow run {run.name}  {_page(run)}")
        return _follow(prefect, run) if wait else 0


def _deployment(prefect: SyncPrefectClient, name: str) -> DeploymentResponse:
    if "/" in name:
        try:
            return prefect.read_deployment_by_name(name)
        except (ObjectNotFound, ValueError):  # two slashes
            found = []
    else:
        found = prefect.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[name])))
    if len(found) != 1:
        there = prefect.read_deployments()
        known = ", ".join(sorted(f"{prefect.read_flow(one.flow_id).name}/{one.name}" for one in there))
        has = known or "none: 'weathervane deploy' makes those of prefect.yaml"
        raise InputError(f"{name}: no single deployment has that name; the server has {has}")
    return found[0]


def _check(flow: str, deployment: DeploymentResponse, parameters: dict[str, Any]) -> None:
    """The server lets through what the flow does not take, and its run would crash.

    Raises:
        InputError: an option that the flow does not have.
    """
    taken = list((deployment.parameter_openapi_schema or {}).get("properties", {}))
    if other := [_option(name) for name in parameters if name not in taken]:
        has = ", ".join(map(_option, taken)) or "none"
        raise InputError(f"{flow} does not take {', '.join(other)}; its options: {has}")


def _option(name: str) -> str:
    return "--set" if name == "changes" else f"--{name.replace('_', '-')}"


def _page(run: FlowRun) -> str:
    return f"{PREFECT_UI_URL.value()}/runs/flow-run/{run.id}"


def _detail(error: PrefectHTTPStatusError) -> str:
    """Why the server refused; a proxy before it answers in words of its own."""
    try:
        return str(error.response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return str(error)


def _follow(prefect: SyncPrefectClient, run: FlowRun) -> int:
    since: datetime | None = None
    shown, missed = set[UUID](), False
    try:
        while True:
            try:
                run = prefect.read_flow_run(run.id)
                done = run.state is not None and (run.state.is_final() or run.state.name == "Suspended")
                since = _show_log(prefect, run, since, shown)
                if done:
                    time.sleep(POLL)  # its last lines are sent after its state
                    _show_log(prefect, run, since, shown)
                    return _show_result(run)
                missed = False
            except ObjectNotFound:
                raise InputError(f"flow run {run.name} is gone: it was deleted, and may be at work") from None
            except (TransportError, HTTPStatusError) as error:  # as while 'weathervane up' starts it anew
                if isinstance(error, HTTPStatusError) and not error.response.is_server_error:
                    raise
                if not missed:
                    say(f"Prefect's server does not answer ({error}): waiting for it; Ctrl-C leaves the run alone")
                missed = True
            time.sleep(POLL)
    except KeyboardInterrupt:
        say("it goes on; its page shows it")
        return 130


def _show_log(prefect: SyncPrefectClient, run: FlowRun, since: datetime | None, shown: set[UUID]) -> datetime | None:
    """Print the lines from `since` on that are not among those `shown`, page by page; the time of the last one."""
    after = LogFilterTimestamp(after_=since) if since else None
    wanted, offset = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]), timestamp=after), 0
    while lines := prefect.read_logs(wanted, offset=offset):
        offset += len(lines)
        for line in lines:
            if line.id in shown:
                continue
            shown.add(line.id)
            since = line.timestamp
            ours = line.name == logger().name
            if ours or (line.level >= logging.WARNING and line.name not in PREFECTS):
                said = line.message if ours else line.message.partition("\n")[0]  # without its tracebacks
                say(f"{line.timestamp.astimezone():%H:%M:%S}  {said}")
    return since


def _show_markdown(text: str) -> None:
    """Markdown for a person, its lines for a machine."""
    if as_json() or not console().is_terminal:
        say(text)
        return
    from rich.markdown import Markdown

    console().print(Markdown(masked(text)))


def _show_result(run: FlowRun) -> int:
    state = run.state
    assert state is not None
    asks = f"a person is asked: Resume, on {_page(run)}"
    say(f"{state.name}: {asks if state.is_paused() else state.message or ''}")
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        say("MLFLOW_TRACKING_URI is not set: the figures are on the team's MLflow server")
    elif dataset := run.labels.get(HOLDS) or run.labels.get(OF):
        try:
            for found in runs(address, str(dataset), "prefect_flow_run_id", [str(run.id)])[:1]:
                _show_markdown(found.tags.get("mlflow.note.content", ""))
                say(page(address, found.run_id))
        except InputError as error:  # what came of the run does not depend on who can be asked for figures
            say(str(error))
    return 0 if state.is_completed() or state.is_paused() else 1
