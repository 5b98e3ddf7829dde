"""How MLflow's pages show a dataset's runs: a saved view, "Compare variants", that the experiment carries as a tag.

Without one, MLflow shows a table without a figure in it, and a chart for each of a hundred metrics.
"""

import json
from typing import Any

from tasks.tags import BECAME
from tasks.tracking_read import TRAININGS

NAME, SIDE_BY_SIDE = "Compare variants", "Pictures side by side"
KEY = "compare-variants"
TAG = f"mlflow.sharedViewState.{KEY}"
QUERY = f"?{TRAININGS}&viewStateShareKey={KEY}&compareRunsMode=CHART"  # of the page that shows it

# The newest retraining first. Sorted by its date instead, MLflow hides the variants below their parents.
ORDER = "tags.`retraining`"
COLUMNS = {  # and their width in pixels
    ORDER: 200,
    f"tags.`{BECAME}`": 110,
    "metrics.`val/accuracy`": 110,
    "metrics.`test/accuracy`": 110,
    "metrics.`test/accuracy_low`": 140,
    "metrics.`test/accuracy_high`": 145,
    "metrics.`test/macro_f1`": 115,
    "metrics.`test/log_loss`": 110,
    "metrics.`test/ece`": 80,
    "metrics.`train/overfitting_gap`": 165,
    "metrics.`model/latency_ms`": 145,
    "metrics.`train/whole_seconds`": 160,
}
FIRST = {"1": 73, "attributes.`Run Name`": 190}  # MLflow's own, to the left: a colour, the variant
ALONG = ["model/latency_ms", "train/whole_seconds", "train/overfitting_gap", "test/accuracy"]
PICTURES = ("confusion", "reliability")  # as logged by `MlflowClient.log_image`
# MLflow makes a section for each prefix of a metric's name, with a chart for each metric: there, but folded.
FOLDED = ["epoch", "model", "test", "train", "val", "data", "gate", "System metrics"]
FOLDED += [f"{part}/{measure}" for part in ("test", "val") for measure in ("f1", "precision", "recall")]
FOLDED += [f"test/{measure}_{end}" for measure in ("f1", "precision", "recall") for end in ("low", "high")]


def tags() -> dict[str, str]:
    """The experiment's tags that hold the view."""
    envelope = {"name": NAME, "createdAt": 0, "updatedAt": 0, "state": json.dumps(_state())}
    return {TAG: json.dumps(envelope)}


def _state() -> dict[str, Any]:
    """The part of the page's state that is not what it is anyway."""
    charts: list[dict[str, Any]] = [
        {"type": "BAR", "metricKey": "test/accuracy"},
        {"type": "SCATTER", "xaxis": _metric("val/accuracy"), "yaxis": _metric("test/accuracy")},
        {"type": "LINE", "metricKey": "epoch/val_accuracy"},
        {"type": "PARALLEL", "selectedParams": ["family"], "selectedMetrics": ALONG},
    ]
    pictures = [{"type": "IMAGE", "imageKeys": [key], "showRunParams": False} for key in PICTURES]
    cards = [(chart, NAME) for chart in charts] + [(picture, SIDE_BY_SIDE) for picture in pictures]
    sections: list[dict[str, Any]] = [
        {"name": NAME, "display": True, "columns": 2},
        {"name": SIDE_BY_SIDE, "display": True, "columns": 1, "cardHeight": 420},
        *({"name": name, "display": False} for name in FOLDED),
    ]
    return {
        "isAccordionReordered": True,  # else sections are sorted by name
        "searchFilter": "tags.kind = 'variant'",
        "orderByKey": ORDER,
        "orderByAsc": False,
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*FIRST, *COLUMNS],
        "columnWidths": FIRST | COLUMNS,
        "compareRunSections": [{"uuid": section["name"], "isReordered": True, **section} for section in sections],
        "compareRunCharts": [
            {"uuid": f"card {number}", "metricSectionId": section, "deleted": False, "isGenerated": False, **card}
            for number, (card, section) in enumerate(cards)
        ],
    }


def _metric(key: str) -> dict[str, str]:
    return {"key": key, "type": "METRIC"}
