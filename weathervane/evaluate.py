"""What a model is worth: predictions a table, scores with intervals.

Legend: N = images, K = classes. Joins go by class name; no class index is stored anywhere.
"""

from typing import TYPE_CHECKING

import numpy as np

from weathervane.model import Model
from weathervane.store import Store

if TYPE_CHECKING:
    import pandas as pd


def predictions(model: Model, store: Store, split: str, fold: int | None = None) -> "pd.DataFrame":
    """One row an image: sha256, path, group, split, label, predicted, and p_<class> (0-1) for each class."""
    import pandas as pd

    rows = store.part(split, fold=fold)
    probability = model.probabilities(store.pixels(rows))
    columns = {name: store.manifest[name][rows] for name in ("sha256", "path", "group", "split", "label")}
    table = pd.DataFrame(columns)
    table["predicted"] = np.array(model.spec.classes)[probability.argmax(1)]
    for number, label in enumerate(model.spec.classes):
        table[f"p_{label}"] = probability[:, number]
    return table


def scores(table: "pd.DataFrame", classes: list[str]) -> dict[str, float]:
    """accuracy with its 95 % interval (accuracy_low, accuracy_high), macro_f1, log_loss, and
    precision/<class>, recall/<class>, f1/<class>; all 0-1 but log_loss (nats)."""
    from sklearn.metrics import precision_recall_fscore_support

    right = table["predicted"] == table["label"]
    low, high = wilson(int(right.sum()), len(table))
    precision, recall, f1, _ = precision_recall_fscore_support(
        table["label"], table["predicted"], labels=classes, zero_division=0.0
    )
    own = table[[f"p_{label}" for label in classes]].to_numpy()
    of_label = own[np.arange(len(table)), [classes.index(label) for label in table["label"]]]
    found = {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": float(f1.mean()),
        "log_loss": float(-np.log(of_label.clip(1e-12)).mean()),
    }
    for number, label in enumerate(classes):
        found[f"precision/{label}"] = float(precision[number])
        found[f"recall/{label}"] = float(recall[number])
        found[f"f1/{label}"] = float(f1[number])
    return found


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927): stays inside 0-1 and has a width even at 100 %."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = right / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def test_set_hash(store: Store) -> str:
    """Hash (12 digits) of the test images and their labels: equal means that accuracies may be compared."""
    import hashlib

    rows = store.part("test")
    lines = sorted(f"{store.manifest['sha256'][row]} {store.manifest['label'][row]}" for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
