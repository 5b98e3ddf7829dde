"""The model card: what a version is, what it is for, how good it is, where it is weak, how to load it."""

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any

from weathervane.measures import ends
from weathervane.words import markdown_table

MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "roc_auc": "ROC AUC, one class against the rest",
    "ece": "expected calibration error",
    "log_loss": "log loss, nats",
}
PLAIN = {  # of which there are no intervals
    "test/ece_before_scaling": ("expected calibration error before temperature scaling", "{:.3f}"),
    "train/overfitting_gap": ("accuracy on training images, less that on validation", "{:.3f}"),
    "model/latency_ms": ("milliseconds an image, on one processor core", "{:.1f}"),
    "model/bytes": ("bytes of weights", "{:,.0f}"),
}
CLASS_HEAD = ["class", "found (recall)", "95 %", "right when said (precision)", "95 %", "F1", "95 %"]


def model_card(
    name: str,
    version: str,
    model: Mapping[str, Any],
    metrics: Mapping[str, float],
    *,
    synthetic: bool,
    decision: str,
) -> str:
    """Markdown for a registered model's version.

    Args:
        name: of the registered model, and `version`: its number, or an alias as in `@champion`.
        model: the content of model.json.
        metrics: of the run, as `evaluate` logs them: `test/accuracy`, `test/accuracy_low`, ...
        synthetic: images of its dataset are rendered.
        decision: what the gate said, in words.
    """
    about, classes = model["about"], model["classes"]
    place = f"models:/{name}{version if version.startswith('@') else f'/{version}'}"
    measured = [[told, *_value(metrics, key)] for key, told in MEASURES.items() if f"test/{key}_low" in metrics]
    plain = [[told, shown.format(metrics[key]), ""] for key, (told, shown) in PLAIN.items() if key in metrics]
    weakest_first = sorted(classes, key=lambda label: metrics[f"test/f1/{label}"])
    lines = [decision, ""]  # first: lists of versions show that line alone
    if synthetic:
        lines += ["**Trained and tested on rendered pictures: its figures say nothing about photographs.**", ""]
    lines += [
        f"**What it is.** The variant `{model['variant']}` of the family `{model['family']}`: a photograph, shrunk to "
        f"{model['size']} × {model['size']} pixels, to probabilities of {_listed(classes)}. Temperature-scaled on "
        f"validation (T = {model['temperature']:.2f}).",
        "",
        f"**Data.** `{about.get('dataset', name)}`, version `{about.get('data_md5', 'unknown')}`; code of commit "
        f"`{about.get('git_commit', 'unknown')}`.",
        "",
        "**Intended use.** Sorting photographs that resemble its training images into these classes. Every image gets "
        "one of them, also one that shows none. Not for decisions about people's safety.",
        "",
        f"**How good it is.** On {metrics['test/images']:.0f} test images; neither they nor near-duplicates that "
        "were found were trained on. With 95 % intervals:",
        "",
        markdown_table(["", "", "95 %"], [*measured, *plain]),
        "",
        "**By class**, the weakest first:",
        "",
        markdown_table(CLASS_HEAD, [_class_row(label, metrics) for label in weakest_first]),
        "",
        "**How to load it.**",
        "",
        "```python",
        "import mlflow, pandas as pd",
        "",
        f'model = mlflow.pyfunc.load_model("{place}")',
        'model.predict(pd.DataFrame({"image": [open("photo.jpg", "rb").read()]}))',
        "```",
    ]
    return "\n".join(lines)


def _listed(classes: list[str]) -> str:
    return ", ".join(f"`{label}`" for label in classes)


def _value(metrics: Mapping[str, float], key: str) -> tuple[str, str]:
    """The value and its interval."""
    value, low, high = (metrics.get(f"test/{name}", math.nan) for name in (key, *ends(key)))
    return f"{value:.3f}", f"{low:.3f}–{high:.3f}"


def _class_row(label: str, metrics: Mapping[str, float]) -> list[str]:
    return [label, *chain(*(_value(metrics, f"{kind}/{label}") for kind in ("recall", "precision", "f1")))]
