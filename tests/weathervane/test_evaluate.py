"""Scores and their intervals, predictions as a table, and the hash that says what may be compared."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn import metrics

from weathervane.evaluate import predictions, scores, test_set_hash, wilson
from weathervane.model import Model, Spec, build
from weathervane.store import Store, seal

test_set_hash.__test__ = False  # pytest would take it for a test
CLASSES = ["cloudy", "rain", "shine"]


def table(labels: list[str], predicted: list[str], classes: list[str] = CLASSES) -> pd.DataFrame:
    """Predictions with 0.7 for the predicted class."""
    rest = 0.3 / (len(classes) - 1)
    shares = {f"p_{label}": [0.7 if label == one else rest for one in predicted] for label in classes}
    return pd.DataFrame({"label": labels, "predicted": predicted} | shares)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # the first four: Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 0.7225, 1.0000),
        (0, 10, 0.0000, 0.2775),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_gives_the_published_intervals(right: int, n: int, low: float, high: float) -> None:
    """The 95 % interval of a share is the one in the literature, to four digits."""
    assert wilson(right, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_is_the_score_test_turned_round() -> None:
    """Each limit is a share p for which the observed one lies exactly z standard errors away."""
    for right, n in ((3, 7), (90, 100), (199, 200)):
        for limit in wilson(right, n):
            assert abs(right / n - limit) == pytest.approx(1.959964 * math.sqrt(limit * (1 - limit) / n), rel=1e-9)


def test_wilson_stays_a_share() -> None:
    """Never below 0 or above 1, around the share, narrower with more images; without images it says nothing."""
    assert wilson(0, 0) == (0.0, 1.0)
    for n in (1, 2, 10, 1000):
        for right in {0, n // 2, n}:
            low, high = wilson(right, n)
            assert 0 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1
    assert np.diff(wilson(900, 1000)) < np.diff(wilson(90, 100)) < np.diff(wilson(9, 10))


def test_scores_are_scikit_learns() -> None:
    """On a random table of 500 predictions every score equals that of its reference implementation."""
    rng = np.random.default_rng(0)
    labels, shares = rng.choice(CLASSES, 500, p=[0.6, 0.3, 0.1]), rng.dirichlet([1, 1, 1], 500)
    predicted = np.array(CLASSES)[shares.argmax(1)]
    content = {"label": labels, "predicted": predicted} | {f"p_{c}": shares[:, n] for n, c in enumerate(CLASSES)}
    found = scores(pd.DataFrame(content), CLASSES)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, shares, labels=CLASSES))
    report = metrics.classification_report(labels, predicted, output_dict=True)
    for label in CLASSES:
        assert found[f"precision/{label}"] == pytest.approx(report[label]["precision"])
        assert found[f"recall/{label}"] == pytest.approx(report[label]["recall"])
        assert found[f"f1/{label}"] == pytest.approx(report[label]["f1-score"])
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson(int((labels == predicted).sum()), 500)
    assert len(found) == 5 + 3 * len(CLASSES) and {type(value) for value in found.values()} == {float}


def test_scores_by_hand() -> None:
    """Four photographs: one rain taken for shine. Per class, not per photograph, counts for macro-F1."""
    found = scores(table(["rain", "rain", "shine", "cloudy"], ["rain", "shine", "shine", "cloudy"]), CLASSES)
    assert found["accuracy"] == 0.75
    assert (found["precision/rain"], found["recall/rain"]) == (1, 0.5)
    assert (found["precision/shine"], found["recall/shine"]) == (0.5, 1)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert found["log_loss"] == pytest.approx(-(3 * math.log(0.7) + math.log(0.15)) / 4)


@pytest.mark.filterwarnings("error")
def test_a_class_that_never_occurs_scores_0() -> None:
    """Neither predicted nor present: 0, without a warning, and it counts in macro-F1. The order of rows does not."""
    some = table(["rain", "shine", "rain"], ["rain", "rain", "rain"])
    found = scores(some, CLASSES)
    for kind in ("precision", "recall", "f1"):
        assert found[f"{kind}/cloudy"] == found[f"{kind}/shine"] == 0
    assert found["macro_f1"] == pytest.approx(0.8 / 3)
    assert scores(some.iloc[::-1], CLASSES) == found


def test_certainty_about_the_wrong_class_is_finite() -> None:
    """A probability of 0 for the true class gives a large log loss, not an infinite one."""
    sure = table(["rain"], ["shine"]).assign(p_rain=0.0, p_shine=1.0, p_cloudy=0.0)
    assert 20 < scores(sure, CLASSES)["log_loss"] < 30


def test_predictions_are_one_row_an_image_joined_by_name(store: Store) -> None:
    """Whatever order the model's classes have, p_<class> is that class's probability, and `predicted` the largest."""
    network = {"hidden": [16, 16], "dropout": 0.0, "input_size": 8}
    classes = store.classes[::-1]
    spec = Spec("mine", "dnn", network, 32, 32, classes, False)
    torch.manual_seed(0)
    model = Model(build(spec), spec, torch.device("cpu"))
    found, rows = predictions(model, store, "train", fold=1), store.part("train", fold=1)
    assert found["sha256"].tolist() == store.manifest["sha256"][rows].tolist()
    assert found["label"].tolist() == store.manifest["label"][rows].tolist()
    shares = model.probabilities(store.pixels(rows))
    assert found[[f"p_{label}" for label in classes]].to_numpy() == pytest.approx(shares)
    assert found["predicted"].tolist() == [classes[number] for number in shares.argmax(1)]
    assert set(found["split"]) == {"train"}
    assert len(predictions(model, store, "test")) == len(store.part("test"))


def with_manifest(store: Store, folder: Path, manifest: dict[str, np.ndarray]) -> Store:
    folder.mkdir()
    pq.write_table(pa.table(manifest), folder / "manifest.parquet")
    seal(folder)
    return Store(folder)


def test_the_test_sets_hash_is_its_content(store: Store, tmp_path: Path) -> None:
    """It changes with a test image or its label; not with the order of images, nor with the training images."""
    mark, manifest = test_set_hash(store), store.manifest
    assert len(mark) == 12 and int(mark, 16) >= 0
    order = np.random.default_rng(0).permutation(len(manifest["label"]))
    shuffled = {column: values[order] for column, values in manifest.items()}
    assert test_set_hash(with_manifest(store, tmp_path / "shuffled", shuffled)) == mark

    def changed(name: str, column: str, row: int, value: str) -> str:
        values = manifest[column].astype(object)
        values[row] = value
        return test_set_hash(with_manifest(store, tmp_path / name, manifest | {column: values.astype(str)}))

    tested, trained = store.part("test")[0], store.part("train")[0]
    other = next(label for label in store.classes if label != manifest["label"][tested])
    assert changed("relabelled", "label", tested, other) != mark
    assert changed("exchanged", "sha256", tested, "0" * 64) != mark
    assert changed("one fewer", "split", tested, "train") != mark
    assert changed("training image", "sha256", trained, "0" * 64) == mark
