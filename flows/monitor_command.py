"""`weathervane monitor`: what the step of the flow does, without Prefect; so nothing is told but on the terminal."""

from tasks.tracking_read import check_server, uri
from weathervane import project
from weathervane.progress import tabulate


def run_monitor(source: str, days: float | None, model: str, device: str) -> None:
    """Look, and show what was found."""
    root = project.root()
    from tasks.monitor import asked, monitor

    params = asked(root, source, days)
    check_server(uri(root))
    seen = monitor(root, params, model, device)
    if seen.judged.findings:
        rows = [
            [one.name, f"{one.difference:.2f}", f"{one.p:.2g}", one.before, one.after, "drifted" if one.drifted else ""]
            for one in seen.judged.findings
        ]
        tabulate(["", "difference", "p", "at training", "lately", ""], rows)
