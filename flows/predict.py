"""The flow `predict`: photographs that nobody labelled, scored by the champion or another version."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.outcome import outcome
from tasks.score import score
from tasks.step import step
from tasks.tracking_read import tracked_root
from weathervane.errors import InputError
from weathervane.params import Device


@flow(name="predict")
def predict(
    source: Annotated[str, Field(min_length=1)],
    out: str = "predictions.parquet",
    model: str = "",
    device: Device = "auto",
) -> Any:
    """Score photographs without labels to a table, a row each.

    Args:
        source: a folder, a zip or tar archive, or a pattern such as photos/*.jpg, on the worker's machine.
        out: a .parquet, .csv or .jsonl there; a relative path counts from the worker's clone.
        model: models:/weather/7, models:/weather@champion or a number; empty for the dataset's champion.
        device: auto, cpu, cuda, cuda:1, mps.

    Returns:
        decision: scored; why, in words; out, images, problems.
    """
    return outcome(lambda: work(source, out, model, device))


def work(source: str, out: str, model: str, device: str) -> dict[str, Any]:
    """The flow's step; see `predict`."""
    root = tracked_root()
    try:
        place = root / Path(out).expanduser()
    except RuntimeError as error:
        raise InputError(f"out: {out}: {error}") from None
    scored = step(name="score")(score)(root, source, place, model, device)
    return {"decision": "scored", "why": str(scored), **asdict(scored)}
