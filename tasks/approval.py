"""Policy `manual`: the flow is suspended with the evidence until a person approves or rejects, on Prefect's page.

Nothing waits in memory: what is waited for stands in MLflow (tag `decision` of the retraining and of the version), so a
restart of worker and servers loses nothing. When it is resumed, Prefect starts the flow from its beginning.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks import promotion, tracking
from tasks.locks import champion_lock
from tasks.retries import patiently
from tasks.shown import show
from tasks.tags import BECAME, BY_HAND, COMPARED_WITH, HOLDS, NOT_PROMOTED, OWNER, PROMOTED, WAITING
from tasks.tracking import DESCRIPTION, NOTE
from tasks.tracking_read import Run, runs, uri
from weathervane.errors import InputError
from weathervane.owner import me
from weathervane.progress import say

TIMEOUT = 30 * 24 * 3600  # seconds, after which Prefect fails the run and nothing is promoted


class Approval(RunInput):
    """The form."""

    decision: Literal["approve", "reject"] = Field(description="Whether the challenger becomes champion.")
    by: str = Field(min_length=1, description="Who decides; stays on record.")
    why: str = Field(min_length=1, description="The reason; stays on record.")


@dataclass(frozen=True)
class Waiting:
    """A version that waits for a person's word."""

    dataset: str
    parent: str  # the retraining's MLflow run
    variant: str
    version: str
    champion: str  # whom it was compared with; "" for nobody


def can_ask() -> bool:
    """Only the run of a deployment can be suspended: a worker starts it again."""
    return bool(runtime.deployment.id)


def waiting(root: Path, dataset: str) -> Waiting | None:
    """What this flow run was suspended for, if it was; or a question that another one left and cannot ask any more."""
    if not can_ask():
        return None
    with get_client(sync_client=True) as prefect:
        held = prefect.read_flow_run(runtime.flow_run.id).labels.get(HOLDS)
        prefect.update_flow_run_labels(runtime.flow_run.id, {OWNER: me()})  # once resumed it is another process's
    take = partial(_take, root, str(held or dataset))  # params/ingest.yaml may name another dataset by now
    return patiently(take) if held else take()  # a run that was at work before may have a person's answer


def _take(root: Path, dataset: str) -> Waiting | None:
    """The question that is this flow run's from here on. Those of runs that ended badly are closed if they are moot."""
    mine, client = str(runtime.flow_run.id), tracking.client(root)
    with champion_lock(root, dataset):
        questions = runs(uri(root), dataset, "decision", [WAITING])
        own = [run for run in questions if run.tags["prefect_flow_run_id"] == mine]
        for run in own or questions:
            state = None if own else _state(run.tags["prefect_flow_run_id"])
            if state and not state.is_final():
                continue
            version = tracking.or_none(partial(client.get_model_version, dataset, run.tags["model_version"]))
            if own and version:
                return _question(dataset, run, version)
            moot = _moot(client, dataset, run, version)
            if not moot and state and state.is_cancelled():
                moot = NOT_PROMOTED, "the run that asked was cancelled"
            if moot:
                _close(root, dataset, run, version, moot)
            elif state:  # None: of a flow run that was deleted, or of another server's
                _take_over(root, dataset, run, mine)
                return _question(dataset, run, version)
    return None


def _take_over(root: Path, dataset: str, run: Run, mine: str) -> None:
    """From here on the question of that retraining is the flow run's called `mine`."""
    version = run.tags["model_version"]
    say(f"asks about version {version} of {dataset} instead: the run that was to do so crashed or failed")
    tracking.log(root, run.run_id, tags={"prefect_flow_run_id": mine})
    with get_client(sync_client=True) as prefect:
        prefect.update_flow_run_labels(UUID(mine), {HOLDS: dataset})


def _question(dataset: str, run: Run, version: Any) -> Waiting:
    met = version.tags.get(COMPARED_WITH, "")
    return Waiting(dataset, run.run_id, run.tags["best_variant"], str(version.version), met)


def _moot(client: Any, dataset: str, run: Run, version: Any) -> tuple[str, str] | None:
    """What a retraining's question has come to without an answer: decision and why; None if it is open still."""
    if version is None:
        return NOT_PROMOTED, f"version {run.tags['model_version']} was deleted before anybody decided"
    if (told := version.tags.get("decision", WAITING)) != WAITING:  # answered, and the run ended before it was noted
        return told, version.tags.get("why", "")
    champion = promotion.standing(client, dataset).champion
    if champion == str(version.version):
        return PROMOTED, version.tags.get(BY_HAND, "made champion elsewhere")
    if by := version.tags.get(BY_HAND):
        return NOT_PROMOTED, f"{by}; and version {champion or 'none'} is champion since"
    if champion != version.tags.get(COMPARED_WITH, ""):
        return NOT_PROMOTED, f"version {champion or 'none'} became champion before anybody decided"
    if time.time() - run.started / 1000 > TIMEOUT:
        return NOT_PROMOTED, f"nobody decided within {TIMEOUT // (24 * 3600)} days"
    return None


def _close(root: Path, dataset: str, run: Run, version: Any, moot: tuple[str, str]) -> None:
    if version is not None:
        _tell(tracking.client(root), dataset, str(version.version), *moot)
    _tell_the_retraining(root, run.run_id, *moot)


def _tell(client: Any, dataset: str, version: str, decision: str, why: str) -> None:
    """The decision on the version; the word last."""
    found = client.get_model_version(dataset, version)
    client.update_model_version(dataset, version, answered(found.description or "", decision, why)[:DESCRIPTION])
    if decision == PROMOTED and found.run_id:
        client.set_tag(found.run_id, BECAME, "champion")
    for key, value in {"why": why, "decision": decision}.items():
        client.set_model_version_tag(dataset, version, key, value)


def _tell_the_retraining(root: Path, run: str, decision: str, why: str) -> None:
    note = tracking.client(root).get_run(run).data.tags.get(NOTE, "")
    tags = {NOTE: answered(note, decision, why), "decision": decision, "decision_why": why}
    tracking.log(root, run, tags=tags)


def answered(text: str, decision: str, why: str) -> str:
    """A description that begins with the question, with the answer before its evidence."""
    return text.replace(f"{WAITING}:**", f"{decision}:** {why}. What was asked:", 1)


def _state(flow_run: str) -> State | None:
    """What became of another flow run; None where nobody knows."""
    with get_client(sync_client=True) as prefect:
        try:
            return prefect.read_flow_run(UUID(flow_run)).state
        except (ObjectNotFound, ValueError):  # of another server, or of none
            return None


def ask(root: Path, one: Waiting, evidence: str = "") -> dict[str, Any]:
    """Suspend this flow run with the evidence; when it has been resumed, carry out what was answered.

    Done again after it failed half-way, it comes to the same. The evidence stays on the retraining's MLflow run.

    Returns:
        The summary of the retraining, as the flow `retrain` returns it.
    """
    tags = {"prefect_flow_run_id": str(runtime.flow_run.id)}
    if evidence:
        tags["evidence"] = evidence
        say(f"version {one.version} of {one.dataset} waits for a person's word, on this run's page in Prefect")
    patiently(lambda: tracking.log(root, one.parent, tags=tags))
    evidence = evidence or tracking.client(root).get_run(one.parent).data.tags.get("evidence", "")
    form = Approval.with_initial_data(description=f"**{one.dataset}**, variant {one.variant}. {evidence}")
    # By version: where the key is an earlier one's, Prefect does not ask, but gives the answer that it had.
    answer = suspend_flow_run(wait_for_input=form, key=f"approval-{one.version}", timeout=TIMEOUT)
    why = f"{'approved' if answer.decision == 'approve' else 'rejected'} by {answer.by}: {answer.why}"
    promoted, why = patiently(lambda: _carry_out(root, one, answer, why))
    decision = PROMOTED if promoted else NOT_PROMOTED
    patiently(lambda: _tell_the_retraining(root, one.parent, decision, why))
    show("decision", one.dataset, answered(evidence, decision, why), why)
    return {
        "rows": [],
        "decision": decision,
        "why": why,
        "parent": one.parent,
        "dataset": one.dataset,
        "variant": one.variant,
    }


def _carry_out(root: Path, one: Waiting, answer: Approval, why: str) -> tuple[bool, str]:
    """Whether the version is champion now, and why."""
    client, promoted = tracking.client(root), False
    with champion_lock(root, one.dataset):
        now = promotion.standing(client, one.dataset)
        if now.champion == one.version:  # by an earlier try, or by hand
            promoted = True
            if answer.decision == "reject":
                why += f"; but version {one.version} is champion by now: 'weathervane rollback --why ...' takes it back"
        elif answer.decision == "approve":
            if now.champion != one.champion:
                why += (
                    f"; but the evidence is about champion {one.champion or 'none'}, which is {now.champion or 'none'} "
                    f"by now: 'weathervane promote {one.version} --why ...' does it all the same"
                )
            else:
                promoted, why = _promote(client, one, why, answer.by)
        _tell(client, one.dataset, one.version, PROMOTED if promoted else NOT_PROMOTED, why)
    return promoted, why


def _promote(client: Any, one: Waiting, why: str, by: str) -> tuple[bool, str]:
    try:
        promotion.promote(client, one.dataset, one.version, why, by)
    except InputError as error:
        return False, f"{why}; not promoted: {error}"
    return True, why
