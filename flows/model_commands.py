"""`weathervane predict`, `monitor`, `suggest`, `export`: what a registered model does, without Prefect."""

from pathlib import Path

from tasks.tracking_read import check_server, tracked_root, uri
from weathervane import project
from weathervane.layout import shown
from weathervane.progress import say, tabulate

SHOWN = 20  # photographs that cannot be used


def predict(source: str, out: Path, model: str, device: str) -> None:
    """Score, and say what could not be."""
    root = tracked_root()
    from tasks.score import score

    scored = score(root, source, out, model, device)
    if scored.problems:
        tabulate(["cannot be used", "why"], [[shown(path), why] for path, why in scored.problems[:SHOWN]])
        if len(scored.problems) > SHOWN:
            say(f"and {len(scored.problems) - SHOWN} more: column 'problem'")


def monitor(source: str, days: float | None, model: str, device: str) -> None:
    """Look, and show what was found; nothing is told but on the terminal."""
    root = project.root()
    from tasks.monitor import asked
    from tasks.monitor import monitor as look

    params = asked(root, source, days)
    check_server(uri(root))
    seen = look(root, params, model, device)
    if seen.judged.findings:
        rows = [
            [one.name, f"{one.difference:.2f}", f"{one.p:.2g}", one.before, one.after, "drifted" if one.drifted else ""]
            for one in seen.judged.findings
        ]
        tabulate(["", "difference", "p", "at training", "lately", ""], rows)


def suggest(source: str, n: int, out: Path, model: str, device: str) -> None:
    """Choose, and say where they are and what to do with them."""
    root = tracked_root()
    from tasks.suggest import TABLE
    from tasks.suggest import suggest as choose

    say(f"{choose(root, source, n, out, model, device)}: {out}, listed in {TABLE}")
    say("Sort them into class folders of a source of params/ingest.yaml: the next retraining takes them in.")


def export(model: str, to: str, out: Path | None) -> None:
    """Write the file, and say how it compares with the model."""
    root = tracked_root()
    from tasks.export import export as write

    version, file, found = write(root, model, to, out)
    say(f"{version} to {file}: {file.stat().st_size / 1e6:.1f} MB")
    say(f"largest difference of a probability on {found.images} images: {found.difference:.2g}")
    rows = [[str(count), f"{ours:.2f}", f"{theirs:.2f}"] for count, (ours, theirs) in found.latency.items()]
    tabulate(["images at once", "torch, ms", "onnxruntime, ms"], rows)
