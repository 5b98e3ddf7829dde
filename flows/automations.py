"""What the Prefect server does by itself: it tells people, and ends runs that nobody works at any more.

These automations live in the server and work as long as it does. `ensure_automations` makes them what
params/notify.yaml asks for and leaves alone what is so already: a changed trigger would start counting anew.

Their triggers have to bear a trait of the server's: an event that a trigger expects, but does not begin to wait after,
makes the server read before it writes, and on SQLite that fails while something else is written: the event is lost for
all triggers that it concerns. So none of these waits for such an event. Where it matters what has become of a run in
the meantime, that is asked when the time is over.
"""

from collections.abc import Iterable, Iterator
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

TAG = "weathervane"  # of the automations that are ours to change and to remove
FLOWS = ["retrain", "ingest", "crossval", "predict", "monitor"]
PAGE = 200  # automations that a server gives at a time
LATE = timedelta(hours=1)
SILENCE = timedelta(seconds=90)  # three heartbeats; PREFECT_FLOWS_HEARTBEAT_FREQUENCY is 30
LONGEST = 700  # characters of a state's message that are passed on; Apprise cuts in two what is over 1,000 for Teams
EVENT = "prefect.flow-run."
NOTHING = "weathervane.nothing"  # an event that nobody emits: the time alone is waited for
SILENT = "Silent"  # a state between Running and Crashed
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
    provided: str = ""  # a condition, in Jinja; an empty message is not sent: the server logs that it failed


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
            "weathervane: approval",
            "approval",
            _on([f"{EVENT}Suspended"], ["retrain"]),
            "Weathervane: a challenger waits for a person",
            "{{ flow_run.name }}: Resume, on its page, shows the evidence and asks for approve or reject.",
        ),
        Alarm(
            "weathervane: drift",
            "drift",
            _on([f"{EVENT}Drift"], ["monitor"]),
            "Weathervane: photographs have changed",
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
            _without([f"{EVENT}Late"], [NOTHING], LATE, FLOWS, each=True),
            "Weathervane: nobody takes up {{ flow.name }}",
            "{{ flow_run.name }} should have started at {{ flow_run.expected_start_time.strftime('%Y-%m-%d %H:%M') }} "
            "UTC, and no worker has taken it up: is one running?",
            provided="flow_run.state_name == 'Late'",
        ),
    ]


def ensure_automations(root: Path) -> tuple[list[str], list[str]]:
    """Make the server's automations what params/notify.yaml asks for; what was changed and what could not be, in words.

    An automation that somebody has switched off stays off. A target whose block is not on the server is told nothing.
    """
    notify = read(root)
    with get_client(sync_client=True) as prefect:
        blocks = {target.block: _block(prefect, target) for target in notify.targets}
        wanted = [*_tellers(notify, {name: found for name, found in blocks.items() if found}), *_reapers()]
        there = {one.name: one for one in _automations(prefect) if TAG in one.tags}
        told = [line for one in wanted if (line := _ensure(prefect, one, there.pop(one.name, None)))]
        for name, one in there.items():
            prefect.delete_automation(one.id)
            told.append(f"automation removed: {name}")
    lacking = [
        f"{NOTIFY}: the server has no block '{target.block}' for {target.kind}, who is told nothing: "
        f"'weathervane notify {target.kind} --block {target.block}' stores the address in it"
        for target in notify.targets
        if not blocks[target.block]
    ]
    return told, lacking


def _automations(prefect: SyncPrefectClient) -> Iterator[Automation]:
    """All that a server has, whoever made them, page by page."""
    offset = 0
    while page := prefect.read_automations(limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _ensure(prefect: SyncPrefectClient, wanted: AutomationCore, found: Automation | None) -> str:
    if found is None:
        prefect.create_automation(wanted)
        return f"automation made: {wanted.name}"
    if (found.trigger, found.actions, found.description) == (wanted.trigger, wanted.actions, wanted.description):
        return ""
    prefect.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))
    return f"automation changed: {wanted.name}"


def _tellers(notify: Notify, blocks: dict[str, UUID]) -> list[AutomationCore]:
    out = []
    for alarm in alarms(notify):
        link = home() + ("/runs/flow-run/{{ flow_run.id }}" if alarm.of_run else "")
        actions = [
            SendNotification(
                block_document_id=blocks[target.block],
                subject=_provided(alarm, alarm.subject),
                body=_provided(alarm, body(target.kind, alarm.subject, alarm.text, link)),
            )
            for target in notify.targets
            if alarm.occasion in target.on and target.block in blocks
        ]
        if actions:
            told = f"Tells the targets of {NOTIFY} that want to hear of '{alarm.occasion}'"
            out.append(
                AutomationCore(name=alarm.name, description=told, tags=[TAG], trigger=alarm.trigger, actions=actions)
            )
    return out


def _reapers() -> list[AutomationCore]:
    """A run whose heartbeat stays away is ended; without them, a killed one stays Running for ever.

    In two steps: Prefect would end a suspended run as well, which has no heartbeat either, but it pauses only what is
    running. The first step is tried after the last heartbeat of every run, and refused where that has ended.
    """
    why = (
        f"no sign of life for {SILENCE.total_seconds():g} s: its process was killed, its machine is down or asleep, or "
        "the server was out of its reach"
    )
    beat = [f"{EVENT}heartbeat"]
    pause = ChangeFlowRunState(state=StateType.PAUSED, name=SILENT, message=why)
    end = ChangeFlowRunState(state=StateType.CRASHED, message=why)
    return [
        AutomationCore(
            name="weathervane: a run is silent",
            description=f"Pauses a run without a heartbeat for {SILENCE.total_seconds():g} s, as 'Silent'",
            tags=[TAG],
            trigger=_without(beat, beat, SILENCE, FLOWS, each=True),
            actions=[pause],
        ),
        AutomationCore(
            name="weathervane: end a silent run",
            description="Ends a run that became 'Silent' as crashed",
            tags=[TAG],
            trigger=_on([EVENT + SILENT], FLOWS),
            actions=[end],
        ),
    ]


def _provided(alarm: Alarm, template: str) -> str:
    return f"{{% if {alarm.provided} %}}{template}{{% endif %}}" if alarm.provided else template


def _block(prefect: SyncPrefectClient, target: Target) -> UUID | None:
    try:
        return prefect.read_block_document_by_name(target.block, BLOCK_TYPE, include_secrets=False).id
    except ObjectNotFound:
        return None


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
