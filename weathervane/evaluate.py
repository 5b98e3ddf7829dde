"""What a model says of the images of a split, and how quickly.

Legend: N = images, K = classes. Joins go by class name; no class index is stored anywhere.
"""

import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np

from weathervane.calibration import untempered
from weathervane.model import Model
from weathervane.store import Store

if TYPE_CHECKING:
    import pandas as pd

IMAGES = 30  # of which latency is the median


def predictions(model: Model, store: Store, split: str, fold: int | None = None) -> "pd.DataFrame":
    """One row an image: label, predicted, p_<class> (0-1) for each class, path, group, split, sha256."""
    import pandas as pd

    rows = store.part(split, fold=fold)
    parts = [model.probabilities(pixels) for pixels in store.blocks(rows)]
    probability = np.concatenate(parts) if parts else np.empty((0, len(model.spec.classes)), np.float32)
    table = pd.DataFrame({"label": store.manifest["label"][rows]})
    table["predicted"] = np.array(model.spec.classes)[probability.argmax(1)]
    for number, label in enumerate(model.spec.classes):
        table[f"p_{label}"] = probability[:, number]
    for name in ("path", "group", "split", "sha256"):
        table[name] = store.manifest[name][rows]
    return table


def before_scaling(table: "pd.DataFrame", model: Model) -> "pd.DataFrame":
    """The model's predictions with the probabilities that it would have given without its temperature."""
    columns = [f"p_{label}" for label in model.spec.classes]
    probability = untempered(table[columns].to_numpy(), model.spec.temperature)
    return table.assign(**dict(zip(columns, probability.T, strict=True)))


def latency(model: Model, store: Store) -> float:
    """Median milliseconds from one image's prepared pixels to its probabilities, on one thread.

    More threads gain a single image nothing, and on a busy machine each waits for the slowest: 700 ms for 7.
    """
    import torch

    pixels, threads = store.pixels(np.arange(min(IMAGES, len(store.manifest["sha256"])))), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for number in range(len(pixels)):
            since = time.perf_counter()
            model.probabilities(pixels[number : number + 1])
            seconds.append(time.perf_counter() - since)
    finally:
        torch.set_num_threads(threads)
    return 1000 * float(np.median(seconds))


def hash_of_test_set(store: Store) -> str:
    """Hash (12 digits) of the test images and their labels: equal means that accuracies may be compared."""
    rows = store.part("test")
    lines = sorted(f"{store.manifest['sha256'][row]} {store.manifest['label'][row]}" for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
