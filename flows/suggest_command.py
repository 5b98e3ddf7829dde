"""`weathervane suggest`: unlabelled photographs that are worth a label."""

from pathlib import Path

from tasks.tracking_read import tracked_root
from weathervane.progress import say


def run_suggest(source: str, n: int, out: Path, model: str, device: str) -> None:
    """Choose, and say where they are and what to do with them."""
    root = tracked_root()
    from tasks.suggest import TABLE, suggest

    say(f"{suggest(root, source, n, out, model, device)}: {out}, listed in {TABLE}")
    say("Sort them into class folders of a source of params/ingest.yaml: the next retraining takes them in.")
