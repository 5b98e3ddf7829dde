"""The retraining's copy of the data report, with a real DVC repository and a real MLflow store."""

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import data, tracking
from tasks.dvc_lock import stale_because
from tasks.report import report
from tests.conftest import copy_project
from weathervane.gate import SUSPECTED
from weathervane.ledger import Ledger
from weathervane.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Path]:
    """A project with 4 x 15 rendered skies, prepared, as the working folder."""
    home = copy_project(tmp_path_factory.mktemp("project"))
    shutil.copy(fresh_database, home)
    path = home / "params/ingest.yaml"
    path.write_text(path.read_text().replace("per_class: 100", "per_class: 15"))
    with contextlib.chdir(home):
        data.ingest_and_record(home)
        data.prepare_and_record(home)
        yield home
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def a_run(root: Path, name: str) -> str:
    return tracking.start_run(root, tracking.experiment(root, "skies"), name, {})


def a_model(root: Path, run: str, folder: Path) -> None:
    """An untrained one is logged: what it suspects is what it is."""
    import torch

    from weathervane.model import Model, Spec, build

    torch.manual_seed(0)
    store = Store(root / "data/prepared")
    network = {"hidden": [8, 8], "dropout": 0.0, "input_size": 8}
    spec = Spec("dnn", "dnn", network, 32, store.size, store.classes, True)
    Model(build(spec), spec, torch.device("cpu")).save(folder, store.pixels(np.arange(8)))
    tracking.client(root).log_artifacts(run, str(folder), "model")


def logged(root: Path, run: str) -> dict[str, str]:
    """The artifacts under data/ by name, as text."""
    client: Any = tracking.client(root)
    folder = Path(client.download_artifacts(run, "data"))
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_a_retraining_tells_what_its_best_model_suspects(root: Path, tmp_path: Path) -> None:
    """The parent run holds the page with pictures and a table of all suspects, by the names that people know; the page
    in data/prepared is DVC's, the same with and without a model."""
    parent, child = a_run(root, "retrain"), a_run(root, "dnn")
    a_model(root, child, tmp_path / "model")
    share = report.fn(root, parent, child)
    found = logged(root, parent)
    rows = list(csv.DictReader(found["suspects.csv"].splitlines()))
    ledger = {row.sha256: row for row in Ledger.read(root / "data/raw").rows}
    assert 0 < len(rows) < len(ledger)
    assert share == {SUSPECTED: len(rows) / len(ledger)}
    assert tracking.client(root).get_run(child).data.metrics == share
    for line in rows:
        row = ledger[line["sha256"]]
        assert (line["path"], line["name"], line["source"], line["label"]) == (
            row.path,
            row.name,
            row.source,
            row.label,
        )
        assert line["suggested"] != line["label"] and 0 < float(line["score"]) <= 1
    assert [float(line["score"]) for line in rows] == sorted((float(line["score"]) for line in rows), reverse=True)
    assert f"{len(rows)} image{'' if len(rows) == 1 else 's'}, " in found["report.html"]
    assert found["report.html"].count(f'alt="{rows[0]["label"]} ') >= 1
    plain = (root / "data/prepared/report.html").read_text(encoding="utf-8")
    assert "They take a trained model" in plain and plain != found["report.html"]
    assert stale_because(root, "report") is None


@pytest.mark.parametrize("why", ["no variant could be trained", "its files are gone", "it is damaged"])
def test_without_a_model_the_page_is_logged_as_it_is(
    root: Path, tmp_path: Path, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the data look like can be seen in MLflow whatever became of the models; a decision does not fail for it."""
    parent, child = a_run(root, "retrain"), a_run(root, "dnn")
    if why != "no variant could be trained":
        a_model(root, child, tmp_path / "model")
        folder = Path(tracking.client(root).get_run(child).info.artifact_uri) / "model"
        if why == "its files are gone":
            shutil.rmtree(folder)
        else:
            (folder / "model.safetensors").write_bytes(b"no weights")
    report.fn(root, parent, None if why == "no variant could be trained" else child)
    assert logged(root, parent) == {"report.html": (root / "data/prepared/report.html").read_text(encoding="utf-8")}
    told = {"no variant could be trained": "", "its files are gone": "no longer holds its model"}
    assert told.get(why, "not a usable model") in capsys.readouterr().out
