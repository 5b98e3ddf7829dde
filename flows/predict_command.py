"""`weathervane predict`: what the step of the flow does, without Prefect."""

from pathlib import Path

from tasks.tracking_read import tracked_root
from weathervane.layout import shown
from weathervane.progress import say, tabulate

SHOWN = 20  # photographs that cannot be used


def run_predict(source: str, out: Path, model: str, device: str) -> None:
    """Score, and say what could not be."""
    root = tracked_root()
    from tasks.score import score

    scored = score(root, source, out, model, device)
    if scored.problems:
        tabulate(["cannot be used", "why"], [[shown(path), why] for path, why in scored.problems[:SHOWN]])
        if len(scored.problems) > SHOWN:
            say(f"and {len(scored.problems) - SHOWN} more: column 'problem'")
