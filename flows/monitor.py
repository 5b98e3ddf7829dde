"""The flow `monitor`: photographs of lately beside the champion's training data; a drift is told as an event.

An automation of prefect.yaml waits for it and starts a retraining, which takes in what has been labelled meanwhile.
"""

from dataclasses import asdict
from typing import Annotated, Any

from prefect import flow, runtime
from prefect.events import emit_event
from pydantic import Field

from flows.outcome import outcome
from tasks.monitor import asked
from tasks.monitor import monitor as look
from tasks.step import step
from tasks.tracking_read import check_server, uri
from tasks.turns import tell_dataset
from weathervane import project
from weathervane.params import Device

SEEN = "weathervane.drift.seen"


@flow(name="monitor")
def monitor(
    source: str = "",
    days: Annotated[float | None, Field(ge=0)] = None,
    model: str = "",
    device: Device = "auto",
) -> Any:
    """Say whether photographs that nobody labelled still look like those that the model was trained on.

    Args:
        source: a folder, an archive, a pattern of names or a table that predict wrote, on the worker's machine; empty
            for that of params/monitor.yaml.
        days: of a folder or a pattern, only files that changed in so many days; 0 for all; params/monitor.yaml's.
        model: models:/weather/7, models:/weather@champion or a number; empty for the dataset's champion.
        device: auto, cpu, cuda, cuda:1, mps.

    Returns:
        decision: drift, no drift or too few; why, in words; model, files, unusable, run_id, findings.
    """
    return outcome(lambda: work(source, days, model, device))


def work(source: str, days: float | None, model: str, device: str) -> dict[str, Any]:
    """The flow's steps; see `monitor`."""
    root = project.root()
    params = asked(root, source, days)
    check_server(uri(root))
    seen = step(name="monitor")(look)(root, params, model, device, str(runtime.flow_run.id))
    tell_dataset(seen.dataset)
    if seen.judged.decision == "drift":
        resource = {"prefect.resource.id": f"weathervane.dataset.{seen.dataset}", "prefect.resource.name": seen.dataset}
        emit_event(SEEN, resource, payload={"model": seen.model, "why": seen.judged.why, "run_id": seen.run_id})
    found = {name: value for name, value in asdict(seen).items() if name != "judged"}
    return found | asdict(seen.judged)
