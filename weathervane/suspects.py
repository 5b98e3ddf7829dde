"""Labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).

A network remembers wrong labels that it was trained on, so its own word on them is worth little. Here a logistic
regression on its features judges every image, of train and test alike, fitted without that image and its
near-duplicates. Legend: N = images, D = features, K = classes.
"""

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from weathervane.model import Model
from weathervane.store import Store

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
STRENGTH = 0.1  # sklearn's C on standardised features
BLOCK = 256  # images in memory at a time


def suspects(model: Model, store: Store) -> "pd.DataFrame":
    """Images whose label is probably wrong, the most suspicious first; about as many as there are wrong labels.

    Columns: sha256, path, source, split, label; suggested: the other class; p_label, p_suggested: their
    probabilities (0-1); score: by how much the second is larger (0-1).
    """
    import pandas as pd

    classes, label = np.unique(store.manifest["label"], return_inverse=True)
    probability = out_of_sample(features(model, store), label, store.manifest["group"])
    suggested = doubted(probability, label)
    rows = np.flatnonzero(suggested != label)
    columns = {name: store.manifest[name][rows] for name in ("sha256", "path", "source", "split", "label")}
    table = pd.DataFrame(columns | {"suggested": classes[suggested[rows]]})
    table["p_label"], table["p_suggested"] = probability[rows, label[rows]], probability[rows, suggested[rows]]
    table["score"] = table["p_suggested"] - table["p_label"]
    return table.sort_values(["score", "sha256"], ascending=[False, True], ignore_index=True)


def features(model: Model, store: Store) -> np.ndarray:
    """float32 [N, D]: what the last linear layer is given; averaged with the mirror image's where the logits are."""
    last = [module for module in model.net.modules() if isinstance(module, nn.Linear)][-1]
    given: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    blocks = []
    try:
        for first in range(0, len(store.manifest["label"]), BLOCK):
            model.logits(store.pixels(np.arange(first, min(first + BLOCK, len(store.manifest["label"])))), BLOCK)
            blocks.append(torch.stack(given).float().mean(0).cpu().numpy())
            given.clear()
    finally:
        handle.remove()
    return np.concatenate(blocks)


def out_of_sample(features: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """float64 [N, K]: probabilities from fits that have not seen the image's group.

    Args:
        features: float [N, D].
        label: int64 [N], 0..K-1, each of them there.
        group: [N]; near-duplicates share a value.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probability = np.eye(label.max() + 1)[label]
    folds = StratifiedGroupKFold(min(FOLDS, np.bincount(label).min()), shuffle=True, random_state=0)
    for seen, unseen in folds.split(features, label, group):
        # Nobody can judge the images of a class whose others are all one group with them: they keep their label.
        judged = unseen[np.isin(label[unseen], label[seen])]
        if len(judged) and len(set(label[seen])) > 1:
            judge = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
            judge.fit(features[seen], label[seen])
            probability[np.ix_(judged, judge.classes_)] = judge.predict_proba(features[judged])
    return probability


def doubted(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """int64 [N]: the class that should stand there instead of an image's label, or the label itself.

    Confident of a class is who gives it at least the probability that its own images get on average. The confident
    images say how many of each label are of each other class; as many are doubted, those first that the other class
    leads by most (the paper's pruning by noise rate), if no third class leads more.
    """
    from sklearn.metrics import confusion_matrix

    classes = np.arange(probability.shape[1])
    threshold = np.array([probability[label == k, k].mean() for k in classes])
    sure = np.where(probability >= threshold, probability, 0.0)
    counted = sure.any(1)
    joint = confusion_matrix(label[counted], sure[counted].argmax(1), labels=classes)
    joint = joint * (np.bincount(label) / joint.sum(1))[:, None]  # of all images, not of the confident ones alone
    suggested = label.copy()
    for given, other in permutations(classes, 2):
        rows = np.flatnonzero(label == given)
        lead = probability[rows, other] - probability[rows, given]
        worst = rows[np.argsort(-lead, kind="stable")[: round(joint[given, other])]]
        suggested[worst[probability[worst].argmax(1) == other]] = other
    return suggested
