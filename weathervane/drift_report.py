"""What `monitor` found, to be looked at: a page that needs nothing but itself, and its pictures."""

from pathlib import Path
from typing import TYPE_CHECKING

from weathervane.drift import Judged, Monitor
from weathervane.files import replacing
from weathervane.monitor import Lately
from weathervane.pages import data_uri, rendered
from weathervane.pictures.drift import drift_picture
from weathervane.pictures.photographs import strangest
from weathervane.score_table import Origin

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"


def write(
    folder: Path,
    about: Origin,
    params: Monitor,
    before: "pd.DataFrame",
    after: "pd.DataFrame",
    lately: Lately,
    judged: Judged,
) -> None:
    """report.html, drift.png and strangest.png, `about` whom; `before` and `after` as `judge` was given them."""
    if judged.findings:
        title = f"{about.model}: {judged.decision}"
        drift_picture(before, after, judged.findings, title, folder / "drift.png")
    if lately.strangest:
        strangest(lately.strangest, lately.files, about.classes, folder / "strangest.png")
    pictures = {path.stem: data_uri("png", path.read_bytes()) for path in folder.glob("*.png")}
    content = {"about": about, "params": params, "before": before, "after": after, "lately": lately, "judged": judged}
    with replacing(folder / REPORT) as file:
        file.write(rendered("drift_report.html.j2", **content, pictures=pictures))
