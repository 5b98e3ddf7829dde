"""Labels that are probably wrong, after confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).

Who judges an image has not seen its label, and what counts as sure differs by class. A network remembers wrong
labels that it was trained on; so a logistic regression on its features judges every image, of train and test alike,
fitted without that image and its near-duplicates. Legend: N = images, D = features, K = classes.
"""

from typing import TYPE_CHECKING

import numpy as np

from weathervane.features import store_features
from weathervane.model import Model
from weathervane.store import Store

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
PENALTY = 0.3  # of half the squared weights on standardised features, against the mean loss of an image


def suspects(model: Model, store: Store) -> "pd.DataFrame":
    """Images whose label is probably wrong, the most suspicious first.

    Columns: sha256, path, source, split, label; suggested: the other class; p_label, p_suggested: their
    probabilities (0-1); score: by how much the second is larger (0-1).
    """
    import pandas as pd

    classes, label = np.unique(store.manifest["label"], return_inverse=True)
    probability = out_of_sample(store_features(model, store)[1], label, store.manifest["group"])
    suggested = doubted(probability, label)
    rows = np.flatnonzero(suggested != label)
    columns = {name: store.manifest[name][rows] for name in ("sha256", "path", "source", "split", "label")}
    table = pd.DataFrame(columns | {"suggested": classes[suggested[rows]]})
    table["p_label"], table["p_suggested"] = probability[rows, label[rows]], probability[rows, suggested[rows]]
    table["score"] = table["p_suggested"] - table["p_label"]
    return table.sort_values(["score", "sha256"], ascending=[False, True], ignore_index=True)


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
            judge = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (PENALTY * len(seen)), max_iter=1000))
            judge.fit(features[seen], label[seen])
            probability[np.ix_(judged, judge.classes_)] = judge.predict_proba(features[judged])
    return probability


def doubted(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """int64 [N]: the class that should stand there instead of an image's label, or the label itself.

    A label is doubted where another class is the most probable one, and the label is given less than half of what
    images of that label are given on average: nobody is sure of the images of a hard class.
    """
    own = probability[np.arange(len(label)), label]
    usual = np.array([own[label == k].mean() for k in range(probability.shape[1])])
    return np.where(own < usual[label] / 2, probability.argmax(1), label)
