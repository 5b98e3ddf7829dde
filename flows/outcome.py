"""How a run of a flow ended, as a state that Prefect's pages, automations and `weathervane trigger` show by name."""

from collections.abc import Callable
from typing import Any

from prefect import runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.environment import told_in_prefect
from tasks.tags import PROMOTED
from weathervane.errors import InputError, TrainingError

LENGTH = 2000  # characters of a state's message


class VariantsFailed(TrainingError):
    """Some variants could not be trained; the others were logged. `summary` is what the flow else returns."""

    def __init__(self, failures: dict[str, str], summary: dict[str, Any]) -> None:
        told = [f"{name}: {why}" for name, why in failures.items()]
        if summary.get("decision") == PROMOTED:
            told.append(f"promoted all the same: {summary['variant']}: {summary['why']}")
        super().__init__("; ".join(told))
        self.summary = summary


def outcome(work: Callable[[], dict[str, Any]]) -> State:
    """What `work` came to: a completed state named by its decision; the reason is its message, the summary its value.

    What a person can put right is a failed state with the plain reason on a worker, and raised in a call from Python.
    """
    try:
        with told_in_prefect():
            summary = work()
    except (InputError, TrainingError) as error:
        if runtime.deployment.id:
            return Failed(message=str(error)[:LENGTH])
        raise
    best = f"{summary['variant']}: " if summary.get("variant") else ""
    return Completed(name=summary["decision"].capitalize(), message=f"{best}{summary['why']}"[:LENGTH], data=summary)


def flow_run() -> str:
    """This run of a flow for a person to find: its page, or its name where its server ends with the command."""
    return str(runtime.flow_run.ui_url) if runtime.deployment.id else f"flow run {runtime.flow_run.name}"
