"""Predictions as a table, their latency, and the hash that says what may be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from weathervane.evaluate import (
    before_scaling,
    hash_of_test_set,
    latency,
    predictions,
)
from weathervane.model import Model, Spec, build
from weathervane.store import Store, seal


def untrained(store: Store, temperature: float = 1.0) -> Model:
    network = {"hidden": [16, 16], "dropout": 0.0, "input_size": 8}
    spec = Spec("mine", "dnn", network, 32, 32, store.classes[::-1], False, temperature=temperature)
    torch.manual_seed(0)
    return Model(build(spec), spec, torch.device("cpu"))


def test_predictions_are_one_row_an_image_joined_by_name(store: Store) -> None:
    """Whatever order the model's classes have, p_<class> is that class's probability, and `predicted` the largest."""
    model = untrained(store)
    classes = model.spec.classes
    found, rows = predictions(model, store, "train", fold=1), store.part("train", fold=1)
    assert found["sha256"].tolist() == store.manifest["sha256"][rows].tolist()
    assert found["label"].tolist() == store.manifest["label"][rows].tolist()
    shares = model.probabilities(store.pixels(rows))
    assert found[[f"p_{label}" for label in classes]].to_numpy() == pytest.approx(shares)
    assert found["predicted"].tolist() == [classes[number] for number in shares.argmax(1)]
    assert set(found["split"]) == {"train"}
    assert len(predictions(model, store, "test")) == len(store.part("test"))


def test_predictions_before_scaling_are_those_of_temperature_1(store: Store) -> None:
    """The same classes, and the probabilities of the same network without its temperature."""
    model = untrained(store, temperature=0.4)
    after = predictions(model, store, "test")
    before = before_scaling(after, model)
    model.spec = replace(model.spec, temperature=1.0)
    pd.testing.assert_frame_equal(before, predictions(model, store, "test"), check_dtype=False, rtol=1e-4)
    assert abs(before[f"p_{store.classes[0]}"] - after[f"p_{store.classes[0]}"]).max() > 0.01


def test_latency_is_of_one_image_on_one_thread(store: Store) -> None:
    """Milliseconds, above 0; the threads of whoever asks are as many as before."""
    threads = torch.get_num_threads()
    model, seen = untrained(store), set()
    forward = model.forward
    model.forward = lambda batch: seen.add((len(batch), torch.get_num_threads())) or forward(batch)  # type: ignore
    assert 0 < latency(model, store) < 1000
    assert seen == {(1, 1)} and torch.get_num_threads() == threads


def with_manifest(store: Store, folder: Path, manifest: dict[str, np.ndarray]) -> Store:
    folder.mkdir()
    pq.write_table(pa.table(manifest), folder / "manifest.parquet")
    seal(folder)
    return Store(folder)


def test_the_test_sets_hash_is_its_content(store: Store, tmp_path: Path) -> None:
    """It changes with a test image or its label; not with the order of images, nor with the training images."""
    mark, manifest = hash_of_test_set(store), store.manifest
    assert len(mark) == 12 and int(mark, 16) >= 0
    order = np.random.default_rng(0).permutation(len(manifest["label"]))
    shuffled = {column: values[order] for column, values in manifest.items()}
    assert hash_of_test_set(with_manifest(store, tmp_path / "shuffled", shuffled)) == mark

    def changed(name: str, column: str, row: int, value: str) -> str:
        values = manifest[column].astype(object)
        values[row] = value
        return hash_of_test_set(with_manifest(store, tmp_path / name, manifest | {column: values.astype(str)}))

    tested, trained = store.part("test")[0], store.part("train")[0]
    other = next(label for label in store.classes if label != manifest["label"][tested])
    assert changed("relabelled", "label", tested, other) != mark
    assert changed("exchanged", "sha256", tested, "0" * 64) != mark
    assert changed("one fewer", "split", tested, "train") != mark
    assert changed("training image", "sha256", trained, "0" * 64) == mark
