"""The step `evaluate` on a real model and a real store: what the variant's run holds afterwards."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from tasks import tracking, view
from tasks.evaluate import evaluate
from tasks.plan import Candidate, Plan
from tests.weathervane.test_fit import small
from weathervane.evaluate import predictions
from weathervane.fit import fit
from weathervane.measures import ends
from weathervane.model import Model
from weathervane.store import Store

PICTURES = ["confusion.png", "curves.png", "learning.png", "mistakes.png", "reliability.png"]


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> dict[str, Any]:
    """A network of two epochs, and its run, evaluated twice: as if a moment's failure had repeated the step."""
    root = tmp_path_factory.mktemp("evaluate")
    folder = root / "small"
    folder.mkdir()
    shutil.copy(fresh_database, root)
    outcome = fit("small", small(), store, folder, device=torch.device("cpu"))
    experiment = tracking.experiment(root, "test")
    run = tracking.start_run(root, experiment, "small", {"kind": "variant"})
    tracking.log(root, run, metrics={"train/overfitting_gap": outcome.overfitting_gap, "train/whole_seconds": 1.0})
    tracking.log(root, run, metrics={"epoch/val_accuracy": outcome.val_accuracy}, params={"family": "dnn"})
    plan = Plan("test", "1" * 32, store.folder, 0, [], older=False)
    candidate = Candidate("small", small(), "f" * 32, {}, "")
    for _ in range(2):
        result = evaluate.fn(root, plan, candidate, run, folder)
    client = tracking.client(root)
    return {"client": client, "id": run, "result": result, "folder": folder, "experiment": experiment}


def test_the_figures_are_there_with_their_intervals(run: dict[str, Any], store: Store) -> None:
    """Each test figure stands between its ends; val has the figures; the model's size and speed are measured."""
    metrics = run["client"].get_run(run["id"]).data.metrics
    assert run["result"].metrics == metrics
    names = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc", "ece"]
    names += [f"{kind}/{label}" for kind in ("precision", "recall", "f1") for label in store.classes]
    for name in names:
        low, high = ends(name)
        assert metrics[f"test/{low}"] <= metrics[f"test/{name}"] <= metrics[f"test/{high}"], name
        assert f"val/{name}" in metrics
    model = Model.load(run["folder"] / "model")
    assert metrics["model/temperature"] == model.spec.temperature
    assert metrics["model/bytes"] == (run["folder"] / "model/model.safetensors").stat().st_size
    assert 0 < metrics["model/latency_ms"] < 1000
    assert 0 <= metrics["test/ece_before_scaling"] <= 1
    assert (metrics["val/images"], metrics["test/images"]) == (
        len(store.part("train", fold=0)),
        len(store.part("test")),
    )


def test_every_picture_opens(run: dict[str, Any]) -> None:
    """All five, those that MLflow shows side by side, and those of the inside of a network of its kind."""
    files = {file.path for file in run["client"].list_artifacts(run["id"])}
    assert files == {*PICTURES, "images", "model", "pictures", "predictions"}
    inside = [file.path for file in run["client"].list_artifacts(run["id"], "pictures")]
    assert inside == ["pictures/filters.png", "pictures/gradients.png", "pictures/occlusion.png"]
    for name in PICTURES + inside:
        with Image.open(run["client"].download_artifacts(run["id"], name)) as picture:
            assert picture.format == "PNG" and min(picture.size) > 250
    tags = run["client"].get_run(run["id"]).data.tags
    assert tags["mlflow.loggedImages"] == "True"
    shown = [file.path for file in run["client"].list_artifacts(run["id"], "images")]
    for key in view.PICTURES:
        assert any(path.startswith(f"images/{key}") for path in shown), key


def test_predictions_are_a_table_without_doubles(run: dict[str, Any], store: Store) -> None:
    """MLflow reads and shows them as a table; a step that was repeated has not added its rows once more."""
    listed = json.loads(run["client"].get_run(run["id"]).data.tags["mlflow.loggedArtifacts"])
    assert listed == [{"path": f"predictions/{part}.json", "type": "table"} for part in ("val", "test")]
    path = run["client"].download_artifacts(run["id"], "predictions/test.json")
    table = pd.read_json(Path(path), orient="split", dtype={"sha256": str, "group": str})
    expected = predictions(Model.load(run["folder"] / "model"), store, "test")
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, atol=1e-6)


def test_the_view_shows_what_is_there(run: dict[str, Any]) -> None:
    """Every metric and parameter that the experiment's saved view names is one that a run has."""
    tag = run["client"].get_experiment(run["experiment"]).tags[view.TAG]
    assert len(tag) < 5000  # MLflow's limit
    state = json.loads(json.loads(tag)["state"])
    content = run["client"].get_run(run["id"]).data
    named = [name for name in state["selectedColumns"] if name.startswith("metrics.")]
    keys = [name.removeprefix("metrics.`").removesuffix("`") for name in named]
    for chart in state["compareRunCharts"]:
        keys += chart.get("selectedMetrics", [])
        keys += [chart[key] for key in ("metricKey",) if key in chart]
        keys += [chart[axis]["key"] for axis in ("xaxis", "yaxis") if axis in chart]
        assert set(chart.get("selectedParams", [])) <= set(content.params)
        assert set(chart.get("imageKeys", [])) <= set(view.PICTURES)
        assert chart["metricSectionId"] in {section["uuid"] for section in state["compareRunSections"]}
    assert len(keys) > 12 and set(keys) <= set(content.metrics)


def test_a_view_that_people_have_changed_is_theirs(run: dict[str, Any], tmp_path: Path) -> None:
    """It is set where there is none, and left alone where there is one."""
    experiment = tracking.experiment(tmp_path, "mine")
    client = tracking.client(tmp_path)
    assert view.TAG in client.get_experiment(experiment).tags
    client.set_experiment_tag(experiment, view.TAG, "changed")
    assert tracking.experiment(tmp_path, "mine") == experiment
    assert client.get_experiment(experiment).tags[view.TAG] == "changed"
