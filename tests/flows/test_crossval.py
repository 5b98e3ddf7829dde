"""The command `weathervane crossval`, from the shell to what MLflow and Prefect hold afterwards."""

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from tasks.tags import OF
from tests.conftest import Here
from tests.flows.conftest import WEATHERVANE, Home, environment, weathervane
from tests.flows.test_retrain import HEAVY
from weathervane.ledger import Ledger

pytestmark = pytest.mark.slow
ASKED = ["--folds", "2", "--variants", "dnn", "lstm", "--set", "train.epochs=2"]


def crossval(home: Home, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return weathervane(home.root, "crossval", *arguments, PREFECT_API_URL=home.api, **variables)


def content(home: Home, run: Any, name: str) -> Any:
    return json.loads(Path(home.mlflow.download_artifacts(run.info.run_id, name)).read_text())


def out_of_fold(home: Home, run: Any) -> pd.DataFrame:
    return pd.DataFrame(**content(home, run, "predictions/out_of_fold.json"))


@dataclass(frozen=True)
class Crossed:
    """A command that has cross-validated two variants of two epochs in two folds."""

    said: str
    table: Path
    versions: int  # of models, before
    trained: set[Path]  # folders, before


@pytest.fixture(scope="module", autouse=True)
def crossed(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Crossed:
    """In the clone that all tests of flows share."""
    table = tmp_path_factory.mktemp("crossval") / "table.json"
    versions, trained = len(home.mlflow.search_model_versions()), folders(home)
    done = crossval(home, *ASKED, "--out", str(table))
    assert done.returncode == 0, done.stdout + done.stderr
    return Crossed(done.stdout, table, versions, trained)


def folders(home: Home) -> set[Path]:
    return set((home.root / ".weathervane/training").iterdir())


def test_every_image_is_predicted_once(home: Home) -> None:
    """Each variant's table has every image of the dataset once, train and test, with its label; near-duplicates are of
    one fold, and the folds of all variants are the same."""
    rows = {row.sha256: (row.label, row.group) for row in Ledger.read(home.root / "data/raw").rows}
    tables = [out_of_fold(home, run) for run in home.runs("crossval variant")]
    assert len(tables) == 2
    for table in tables:
        assert len(table) == len(rows)
        assert dict(zip(table["sha256"], zip(table["label"], table["group"], strict=True), strict=True)) == rows
        assert set(table["fold"]) == {0, 1}
        assert (table.groupby("group")["fold"].nunique() == 1).all()
    folds = [table.set_index("sha256")["fold"].sort_index() for table in tables]
    assert folds[0].equals(folds[1])


def test_the_figures_are_those_of_the_predictions(home: Home) -> None:
    """Pooled accuracy, macro-F1 and log loss are scikit-learn's of the out-of-fold table, a fold's those of its rows;
    each has its interval; seconds and parameters are those of the trainings."""
    for run in home.runs("crossval variant"):
        table, metrics = out_of_fold(home, run), run.data.metrics
        classes = [column for column in table if column.startswith("p_")]
        pooled = {
            "accuracy": accuracy_score(table["label"], table["predicted"]),
            "macro_f1": f1_score(table["label"], table["predicted"], average="macro"),
            "log_loss": log_loss(table["label"], table[classes].astype("float32")),
        }
        for name, value in pooled.items():
            assert metrics[f"pooled/{name}"] == pytest.approx(value, rel=1e-6)
            assert metrics[f"pooled/{name}_low"] <= metrics[f"pooled/{name}"] <= metrics[f"pooled/{name}_high"]
        history = home.mlflow.get_metric_history(run.info.run_id, "fold/accuracy")
        right = (table["label"] == table["predicted"]).groupby(table["fold"]).mean()
        assert {point.step: point.value for point in history} == pytest.approx(right.to_dict())
        seconds = [point.value for point in home.mlflow.get_metric_history(run.info.run_id, "fold/seconds")]
        assert len(seconds) == 2 and metrics["train/seconds"] == pytest.approx(sum(seconds) / 2)
        assert metrics["train/parameters"] > 1000


def test_mlflow_has_a_parent_and_a_child_for_each_variant(home: Home, crossed: Crossed) -> None:
    """The parent has the tables, the picture and a description; the children parameters, predictions and pictures; both
    say which data, seed and folds. No training folder is left, nothing is registered, and in Prefect each fold is a
    step."""
    (parent,) = home.runs("crossval")
    children = home.runs("crossval variant")
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert {file.path for file in home.mlflow.list_artifacts(parent.info.run_id)} == {
        *("crossval.json", "variants.json", "pairs.json", "tradeoff.png", "data")
    }
    tables = [entry["path"] for entry in json.loads(parent.data.tags["mlflow.loggedArtifacts"])]
    assert tables == ["variants.json", "pairs.json"]
    tracked = (home.root / "data/raw.dvc").read_text()
    for run in (parent, *children):
        assert (run.data.tags["folds"], run.data.tags["seed"], run.data.tags["share"]) == ("2", "0", "1.0")
        assert run.data.tags["data_md5"] in tracked
        assert run.data.tags["mlflow.source.name"] == "flows/crossval.py"
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["ingredient.folds"] == "2" and run.data.params["train.epochs"] == "2"
        files = {file.path for file in home.mlflow.list_artifacts(run.info.run_id)}
        assert files == {"predictions", "confusion.png", "mistakes.png"}
    assert folders(home) == crossed.trained
    assert len(home.mlflow.search_model_versions()) == crossed.versions
    wanted = {"id": {"any_": [parent.data.tags["prefect_flow_run_id"]]}}
    (run,) = home.ask("flow_runs/filter", {"flow_runs": wanted})
    assert run["labels"][OF] == home.mlflow.get_experiment(parent.info.experiment_id).name  # for 'trigger --wait'
    state, names = home.flow_run(parent)
    assert state == "Compared"
    steps = [re.sub("-[0-9a-f]{3}$", "", name) for name in names]
    assert steps == [
        *("end dead runs", "ingest", "prepare", "open crossval"),
        *("open dnn", "train dnn, fold 0", "train dnn, fold 1", "pool dnn"),
        *("open lstm", "train lstm, fold 0", "train lstm, fold 1", "pool lstm"),
        "close crossval",
    ]


def test_the_table_can_be_written_and_is_said(home: Home, crossed: Crossed) -> None:
    """The terminal shows a line a variant and how it was measured; `--out` writes what the parent holds as JSON, with
    n, seconds, machine and the command that makes it again."""
    (parent,) = home.runs("crossval")
    record = json.loads(crossed.table.read_text())
    assert record == content(home, parent, "crossval.json")
    assert [row["variant"] for row in record["rows"]] == sorted(
        ("dnn", "lstm"), key=lambda name: -next(row["accuracy"] for row in record["rows"] if row["variant"] == name)
    )
    assert record["images"] == 60 and len(record["pairs"]) == 1 and record["failed"] == {}
    assert record["command"] == f"weathervane crossval --folds 2 --seed 0 {' '.join(ASKED[2:])}"
    for row in record["rows"]:
        assert row["seconds"] > 0 and row["parameters"] > 1000 and row["machine"].endswith("cores")
        assert row["precision"] in ("bfloat16", "float32")
        line = next(line for line in crossed.said.splitlines() if line.startswith(f"{row['variant']} "))
        assert f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}–{row['accuracy_high']:.3f})" in line
    assert "60 images in " in crossed.said and "2 folds, seed 0" in crossed.said
    assert all(f"dnn, fold {number} of 2: accuracy" in crossed.said for number in (1, 2))


def test_a_second_time_nothing_is_trained(home: Home, here: Here, tmp_path: Path) -> None:
    """The same command again names the run that stands, before anything heavy is loaded, with its table; `--out` still
    writes it."""
    (parent,), before = home.runs("crossval"), len(home.runs())
    done = crossval(home, *ASKED, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert done.stdout.startswith(f"unchanged since run {parent.info.run_id}\n| variant | accuracy")
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded and not loaded & HEAVY
    out = tmp_path / "again/table.md"
    again = here(home.root, "crossval", *ASKED, "--out", str(out), PREFECT_API_URL=home.api)
    assert again.returncode == 0, again.stderr
    assert out.read_text().strip() == parent.data.tags["mlflow.note.content"]
    assert len(home.runs()) == before


@pytest.mark.drill
def test_a_failure_takes_nobody_along(home: Home) -> None:
    """A variant whose training explodes is told as failed, exit status 1; the others stand in the table, reused where
    they were cross-validated before."""
    known = {run.info.run_id for run in home.runs()}
    done = crossval(home, *ASKED, "dnn.train.lr=1e30")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search("^dnn: failed: dnn, fold 1 of 2: .*loss is .*: lower train.lr$", done.stdout, re.M), done.stdout
    assert "lstm: unchanged since run" in done.stdout
    runs = {run.data.tags["kind"]: run for run in home.runs() if run.info.run_id not in known}
    assert {kind: run.info.status for kind, run in runs.items()} == {"crossval": "FAILED", "crossval variant": "FAILED"}
    record = content(home, runs["crossval"], "crossval.json")
    assert [row["variant"] for row in record["rows"]] == ["lstm"] and list(record["failed"]) == ["dnn"]
    assert home.flow_run(runs["crossval"])[0] == "Failed"


@pytest.mark.drill
def test_a_killed_crossval_goes_on(home: Home) -> None:
    """Killed with SIGKILL in the second fold, the same command goes on with the same runs: the first fold is not
    trained again, the second goes on from its checkpoint, each fold's figures are on record once. Prefect shows the
    killed flow run as crashed."""
    known = {run.info.run_id for run in home.runs()}
    asked = ["--folds", "3", "--variants", "dnn", "--set", "train.epochs=60", "--seed", "1"]
    command = [str(WEATHERVANE), "crossval", *asked]
    env = environment(home.root, PREFECT_API_URL=home.api)
    process = subprocess.Popen(command, cwd=home.root, env=env, stdout=subprocess.PIPE, text=True)
    folder, begun, deadline = home.root / ".weathervane/training", time.time(), time.monotonic() + 120

    def fresh(name: str) -> list[Path]:
        return [path for path in folder.glob(f"dnn-*/{name}") if path.stat().st_mtime > begun]

    while True:
        assert process.poll() is None and time.monotonic() < deadline
        ended = {path.parent for path in fresh("outcome.json")}
        at_work = [path for path in fresh("metrics.jsonl") if path.parent not in ended]
        if ended and at_work and at_work[0].read_text().count("\n") > 20:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    killed = {run.data.tags["kind"]: run for run in home.runs() if run.info.run_id not in known}
    assert killed.keys() == {"crossval", "crossval variant"}
    left = {kind: run.info.run_id for kind, run in killed.items()}

    done = crossval(home, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"going on with the crossval that was interrupted, run {left['crossval']}" in done.stdout
    assert "dnn, fold 1 of 3: trained already" in done.stdout
    assert "dnn, fold 2 of 3: went on in epoch" in done.stdout
    runs = [run for run in home.runs() if run.info.run_id not in known]
    assert {run.info.run_id: run.info.status for run in runs} == dict.fromkeys(left.values(), "FINISHED")
    assert home.flow_run(killed["crossval"])[0] == "Crashed"
    for key in ("accuracy", "seconds", "best_epoch"):
        history = home.mlflow.get_metric_history(left["crossval variant"], f"fold/{key}")
        assert sorted(point.step for point in history) == [0, 1, 2]
    assert "unchanged since run" in crossval(home, *asked).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--folds", "1"], "crossval: 'folds' is 1"),
        (["--folds", "16"], "--folds 16: class 'cloudy' has"),
        (["--variants", "cnnn"], "no variant 'cnnn'"),
        (["--variants", "dnn", "dnn"], "the same variant stands there twice"),
        (["--share", "0"], "crossval: 'share' is 0.0"),
        (["--out", "table.txt"], "--out table.txt: the name of the table ends with .json or .md"),
        (["--out", "README.md/table.md"], "--out README.md/table.md: cannot be written: name another file"),
        (["--set", "train.epoch=3"], "did you mean 'epochs'?"),
    ],
)
def test_bad_input_is_one_clear_line(home: Home, here: Here, arguments: list[str], told: str) -> None:
    """Bad input is told in one line before anything runs, exit status 2."""
    before = len(home.runs())
    done = here(home.root, "crossval", *arguments, PREFECT_API_URL=home.api)
    assert done.returncode == 2
    assert told in done.stderr and len(done.stderr.splitlines()) == 1 and done.stdout == ""
    assert len(home.runs()) == before
