"""What the Prefect server does by itself: it tells people, and ends runs that nobody works at any more.

These automations live in the server and work as long as it does. `ensure_automations` makes them what
params/notify.yaml asks for and leaves alone what is so already: a changed trigger would start counting anew.

On SQLite the server loses an event, for all triggers that it concerns, when one of them reads before it writes while
something else is being written; and that is what an event does that is expected, but is not one that a trigger begins
to wait after. So the events that end a run, which must reach the triggers that tell of it, are no others' business.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.notify import BLOCK_TYPE, NOTIFY, Notify, Occasion, Target, body, home, read
from weathervane.errors import InputError

TAG = "weathervane"  # of the automations that are ours to change and to remove
FLOWS = ["retrain", "ingest"]
LATE = timedelta(hours=1)
SILENCE = timedelta(seconds=90)  # three heartbeats; PREFECT_FLOWS_HEARTBEAT_FREQUENCY is 30
LONGEST = 700  # characters of a state's message that are passed on; Apprise cuts in two what is over 1,000 for Teams
EVENT = "prefect.flow-run."
TAKEN_UP = ["Pending", "Running", "AwaitingConcurrencySlot", "Cancelling", "Cancelled"]
WHY = f'{{{{ (flow_run.state.message or "no reason given") | truncate({LONGEST}, True) }}}}'


@dataclass(frozen=True)
class Alarm:
    """On which trigger who is told what; `subject` and `text` are templates."""

    name: str
    occasion: Occasion
    trigger: EventTrigger
    subject: str
    text: str
    of_run: bool = True  # the link leads to the flow run, else to Prefect's first page


def alarms(notify: Notify) -> list[Alarm]:
    """All that somebody may want to be told."""
    days = f"{notify.overdue_days:g} days"
    return [
        Alarm(
            "weathervane: a run failed",
            "failure",
            _on([f"{EVENT}*"], FLOWS, ["FAILED", "CRASHED"]),
            "Weathervane: {{ flow.name }} {{ flow_run.state.name | lower }}",
            "{{ flow_run.name }}: " + WHY,
        ),
        Alarm(
            "weathervane: promoted",
            "promotion",
            _on([f"{EVENT}Promoted"], ["retrain"]),
            "Weathervane: a new champion",
            "{{ flow_run.name }}: " + WHY,
        ),
        Alarm(
            "weathervane: overdue",
            "overdue",
            # Each success opens a new window: that is what the same events in `after` and `expect` do. The first
            # window opens when the automation is made.
            _without(
                [f"{EVENT}*"], [f"{EVENT}*"], timedelta(days=notify.overdue_days), ["retrain"], types=["COMPLETED"]
            ),
            f"Weathervane: no retraining for {days}",
            f"No retraining has ended well for {days}. Failures are told apart; if there were none, none was started: "
            "look at the schedule and the worker.",
            of_run=False,
        ),
        Alarm(
            "weathervane: late",
            "overdue",
            _without([f"{EVENT}Late"], [EVENT + name for name in TAKEN_UP], LATE, FLOWS, each=True),
            "Weathervane: nobody takes up {{ flow.name }}",
            "{{ flow_run.name }} should have started at {{ flow_run.expected_start_time.strftime('%Y-%m-%d %H:%M') }} "
            "UTC: no worker has taken it up since. Is one running?",
        ),
    ]


def ensure_automations(root: Path) -> list[str]:
    """Make the server's automations what params/notify.yaml asks for; what was changed, in words.

    An automation that somebody has switched off stays off.

    Raises:
        InputError: a target's block is not on the server.
    """
    notify = read(root)
    with get_client(sync_client=True) as prefect:
        wanted = [*_tellers(notify, prefect), _reaper()]
        there = {one.name: one for one in prefect.read_automations() if TAG in one.tags}
        told = [line for one in wanted if (line := _ensure(prefect, one, there.pop(one.name, None)))]
        for name, one in there.items():
            prefect.delete_automation(one.id)
            told.append(f"automation removed: {name}")
    return told


def _ensure(prefect: SyncPrefectClient, wanted: AutomationCore, found: Automation | None) -> str:
    if found is None:
        prefect.create_automation(wanted)
        return f"automation made: {wanted.name}"
    if (found.trigger, found.actions, found.description) == (wanted.trigger, wanted.actions, wanted.description):
        return ""
    prefect.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))
    return f"automation changed: {wanted.name}"


def _tellers(notify: Notify, prefect: SyncPrefectClient) -> list[AutomationCore]:
    blocks = {target.block: _block(prefect, target) for target in notify.targets}
    out = []
    for alarm in alarms(notify):
        link = home() + ("/runs/flow-run/{{ flow_run.id }}" if alarm.of_run else "")
        actions = [
            SendNotification(
                block_document_id=blocks[target.block],
                subject=alarm.subject,
                body=body(target.kind, alarm.subject, alarm.text, link),
            )
            for target in notify.targets
            if alarm.occasion in target.on
        ]
        if actions:
            out.append(AutomationCore(name=alarm.name, tags=[TAG], trigger=alarm.trigger, actions=actions))
    return out


def _reaper() -> AutomationCore:
    """A run whose heartbeat stays away is ended; without it, a killed one stays Running for ever.

    It asks for the end of every run, 90 s after the last heartbeat; where that has come by itself, Prefect refuses.
    """
    beat, suspended = f"{EVENT}heartbeat", [f"{EVENT}Suspended", f"{EVENT}Paused"]
    return AutomationCore(
        name="weathervane: end runs without a sign of life",
        tags=[TAG],
        trigger=_without([beat], [beat, *suspended], SILENCE, FLOWS, each=True),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no sign of life for {SILENCE.total_seconds():g} s: its process was killed, its machine is "
                "down or asleep, or the server was out of its reach",
            )
        ],
    )


def _block(prefect: SyncPrefectClient, target: Target) -> UUID:
    try:
        return prefect.read_block_document_by_name(target.block, BLOCK_TYPE, include_secrets=False).id
    except ObjectNotFound:
        raise InputError(
            f"{NOTIFY}: the server has no block '{target.block}' for {target.kind}: "
            f"'weathervane notify {target.kind} --block {target.block}' stores the address in it"
        ) from None


def _on(events: Iterable[str], flows: list[str], types: list[str] | None = None) -> EventTrigger:
    """One of the events happens to a run of these flows."""
    return EventTrigger(
        expect=set(events), match=_runs(types), match_related=_of(flows), posture=Posture.Reactive, threshold=1
    )


def _without(
    after: Iterable[str],
    expect: Iterable[str],
    within: timedelta,
    flows: list[str],
    types: list[str] | None = None,
    each: bool = False,
) -> EventTrigger:
    """One of `after` is not followed by one of `expect`; with `each`, for each run by itself."""
    return EventTrigger(
        after=set(after),
        expect=set(expect),
        match=_runs(types),
        match_related=_of(flows),
        for_each={"prefect.resource.id"} if each else set(),
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _runs(types: list[str] | None) -> dict[str, str | list[str]]:
    return {"prefect.resource.id": f"{EVENT}*"} | ({"prefect.state-type": types} if types else {})


def _of(flows: list[str]) -> dict[str, str | list[str]]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": flows}
