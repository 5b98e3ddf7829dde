"""The flow `ingest`: what has arrived in the sources becomes a version of the data, which starts a retraining.

An automation of prefect.yaml waits for the event that it emits.
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.events import emit_event

from flows.outcome import flow_run, outcome
from tasks.announced import announce, announced
from tasks.data import current, dataset_of
from tasks.data_steps import ingest as take_in
from tasks.data_versions import difference
from tasks.dvc_lock import raw_md5
from tasks.locks import retrain_lock
from tasks.publish import publish
from weathervane import project
from weathervane.errors import InputError

CHANGED = "weathervane.data.changed"


@flow(name="ingest")
def ingest() -> Any:
    """Take in what is new from the sources of params/ingest.yaml, and tell it as an event.

    Returns:
        decision: ingested, unchanged, or skipped while a retraining is at work or the data cannot go out; why; dataset.
    """
    return outcome(work)


def work() -> dict[str, Any]:
    """The flow's steps; see `ingest`."""
    root = project.root()
    dataset = dataset_of(root)
    summary = {"dataset": dataset, "decision": "unchanged", "why": "nothing new"}
    with retrain_lock(root, wait=False, who=flow_run()) as mine:
        if not mine:
            return summary | {"decision": "skipped", "why": "a retraining is at work, and the next looks itself"}
        before = announced(root)
        if before is None and (before := raw_md5(root)):
            announce(root, before)
        if current(root) and raw_md5(root) == before:
            return summary
        after = take_in(root)
        if not publish(root):
            return summary | {"decision": "skipped", "why": "somebody has pushed meanwhile: the next run tells of it"}
        if after == before:
            return summary
        what = _what(root, before, after)
        resource = {"prefect.resource.id": f"weathervane.dataset.{dataset}", "prefect.resource.name": dataset}
        emit_event(CHANGED, resource, payload={"old": before, "new": after, "what": what})
        announce(root, after)  # only now: whatever failed or was killed before is told by the next run
    return summary | {"decision": "ingested", "why": what}


def _what(root: Path, before: str | None, after: str) -> str:
    if before is None:
        return f"the first version, {after}"
    try:
        return str(difference(root, before, after))
    except InputError as error:
        return f"{after}, what changed is not known: {error}"
