"""`weathervane predict`: photographs that nobody labelled, scored by the champion."""

import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.score import score
from tests.conftest import Here
from tests.flows.conftest import WEATHERVANE, Home, environment, weathervane

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photographs(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's 60 images under names of their own, a text that is none, and what a system leaves behind."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, path in enumerate(sorted((home.root / "data/raw").glob("*/*.*"))):
        (folder / str(number % 3)).mkdir(exist_ok=True)
        shutil.copyfile(path, folder / str(number % 3) / f"{number}{path.suffix}")
    (folder / "note.jpg").write_text("no photograph")
    (folder / ".DS_Store").write_text("")
    (folder / "labels.csv").write_text("path,label\n")
    return folder


def rows(home: Home, source: str | Path, out: Path) -> pd.DataFrame:
    score(home.root, str(source), out, "", "cpu")
    read = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True)}
    assert not out.with_name(f"{out.name}.part").exists()
    return pd.DataFrame(read[out.suffix](out))


def test_every_photograph_has_a_row(home: Home, here: Here, photographs: Path, tmp_path: Path) -> None:
    """A row a file, with the probabilities that the version's own model gives, and which version and data that is; one
    that cannot be used is a row with the reason, and told."""
    from weathervane.model import Model

    done = here(home.root, "predict", str(photographs), "--out", str(tmp_path / "p.parquet"), PREFECT_API_URL=home.api)
    assert done.returncode == 0 and "1 of them cannot be used" in done.stdout, done
    assert "note.jpg" in done.stdout and "not an image" in done.stdout
    table = pd.read_parquet(tmp_path / "p.parquet").set_index("path")
    assert len(table) == 61 and pd.isna(table.loc["note.jpg", "class"])
    good = table[table["problem"] == ""]
    version = home.mlflow.get_model_version_by_alias("weather-synthetic", "champion")
    assert set(table["model"]) == {f"models:/weather-synthetic/{version.version}"}
    assert set(table["data"]) == {version.tags["data_md5"]}
    model = Model.load(Path(home.mlflow.download_artifacts(version.run_id, "model")))
    expected = model.classify([(photographs / path).read_bytes() for path in good.index])
    found = good[[f"p_{name}" for name in model.spec.classes]]
    assert abs(found.to_numpy() - expected).max() < 1e-6
    assert (found.idxmax(axis=1) == "p_" + good["class"]).all() and (good["probability"] == found.max(axis=1)).all()
    assert good["brightness"].between(0, 1).all() and (good["seconds"] > 0).all() and (good["width"] >= 16).all()


def test_folder_archive_and_pattern_are_one(home: Home, photographs: Path, tmp_path: Path) -> None:
    """The same photographs give the same rows from a folder, a zip and a pattern, to parquet, CSV and JSON lines."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(photographs.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(photographs))
    columns = ["path", "sha256", "class", "p_rain", "contrast"]
    tables = [
        rows(home, source, tmp_path / name).dropna(subset="class").sort_values("path", ignore_index=True)[columns]
        for source, name in [
            (photographs, "a.parquet"),
            (tmp_path / "all.zip", "b.csv"),
            (f"{photographs}/*/*", "c.jsonl"),
        ]
    ]
    assert len(tables[0]) == 60
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, check_dtype=False, atol=1e-6)


def test_a_link_in_a_circle_and_an_empty_part_stop_nothing(home: Home, photographs: Path, tmp_path: Path) -> None:
    """A link to itself is a row with the reason; a part without a word, as a full disk leaves it, is taken up."""
    (tmp_path / "some").mkdir()
    shutil.copy(next(photographs.glob("0/*")), tmp_path / "some")
    (tmp_path / "some/loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "p.csv.part").touch()
    table = rows(home, tmp_path / "some", tmp_path / "p.csv").set_index("path")
    assert len(table) == 2 and table.loc["loop.jpg", "problem"] and pd.isna(table.loc["loop.jpg", "class"])


@pytest.mark.fault(56)
def test_killed_it_goes_on_with_what_is_missing(home: Home, here: Here, photographs: Path, tmp_path: Path) -> None:
    """Killed in the middle, and started again: only the rest is scored, once each; a changed file again."""
    many, out = tmp_path / "many", tmp_path / "p.jsonl"
    sources = sorted(path for path in photographs.glob("?/*") if path.is_file())
    many.mkdir()
    for number in range(600):
        os.link(sources[number % len(sources)], many / f"{number:04d}.jpg")
    command = [str(WEATHERVANE), "predict", str(many), "--out", str(out)]
    process = subprocess.Popen(command, cwd=home.root, env=environment(home.root, WEATHERVANE_OWN_SERVER="1"))
    part, deadline = out.with_name("p.jsonl.part"), time.monotonic() + 60
    while not part.exists() or part.read_bytes().count(b"\n") < 150:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    with part.open("a") as file:
        file.write('{"path": "torn')
    left = [json.loads(line) for line in part.read_text().splitlines()[1:-1]]  # without the head and the torn one
    changed = many / left[0]["path"]
    changed.unlink()
    changed.write_bytes(sources[-1].read_bytes())
    done = here(home.root, "predict", str(many), "--out", str(out), PREFECT_API_URL=home.api)
    assert done.returncode == 0 and f"({len(left) - 1} of them before it was interrupted)" in done.stdout, done
    found: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(row["path"] for row in found) == [f"{number:04d}.jpg" for number in range(600)]
    again = next(row for row in found if row["path"] == changed.name)
    assert again["sha256"] != left[0]["sha256"] or sources[-1].read_bytes() == sources[0].read_bytes()


def test_a_table_of_scores_can_be_watched_and_chosen_from(
    home: Home, here: Here, photographs: Path, tmp_path: Path
) -> None:
    """Images that the champion has learnt from say nothing of lately, named by a table of predictions; the report is
    in MLflow. None of them is suggested for a label, because all have one."""
    table = tmp_path / "p.csv"
    rows(home, photographs, table)
    done = here(home.root, "monitor", str(table), PREFECT_API_URL=home.api)
    assert done.returncode == 0 and "monitor: too few: " in done.stdout, done
    (run,) = home.runs("monitoring")
    assert run.info.status == "FINISHED" and run.data.tags["decision"] == "too few"
    assert (run.data.metrics["images/files"], run.data.metrics["images/unusable"]) == (61, 1)
    held = {one.path for one in home.mlflow.list_artifacts(run.info.run_id)}
    assert held == {"report.html", "strangest.png"}
    done = here(home.root, "suggest", str(table), "--out", str(tmp_path / "chosen"), PREFECT_API_URL=home.api)
    assert done.returncode == 2 and "nothing new to label there" in done.stderr, done
    assert not list(tmp_path.glob("*chosen*"))


@pytest.mark.drill
def test_the_champion_is_exported(home: Home, tmp_path: Path) -> None:
    """A file that gives what the champion gives, with the largest difference and both latencies in the terminal."""
    out = tmp_path / "champion.onnx"
    done = weathervane(home.root, "export", "models:/weather-synthetic@champion", "--to", "onnx", "--out", str(out))
    assert done.returncode == 0, done
    assert "largest difference of a probability on 20 images: " in done.stdout
    assert "onnxruntime, ms" in done.stdout and out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["nowhere", "--out", "p.csv"],
            "weathervane: nowhere: no such folder, zip or tar archive, photograph, or pattern",
        ),
        (["data/raw", "--out", "p.xlsx"], "--out p.xlsx: the name has to end in .parquet, .csv, .jsonl"),
        (["data/raw", "--out", "gone/p.csv"], "--out gone/p.csv: the folder gone is not there"),
        (["data/raw", "--out", "p.csv", "--model", "99"], "99: weather-synthetic has the versions "),
        (["data/raw", "--out", "p.csv", "--device", "cuda:99"], "--device cuda:99: not available here"),
        (["monitor"], "params/monitor.yaml: source: nothing to look at: name a folder, an archive or a table of"),
        (["suggest", "data/raw", "--out", "docs"], "docs: is there already: name a new folder"),
        (["suggest", "README.md", "--out", "p.new"], "README.md: nothing new to label there"),
        (["export", "1", "--to", "pt"], "--to pt: there is onnx"),
        (["export", "1", "--out", "p.pt"], "--out p.pt: the name of a .onnx file in a folder that is there is needed"),
    ],
)
def test_wrong_input_is_named(home: Home, here: Here, arguments: list[str], told: str) -> None:
    """What is wrong and what to do, in one line; nothing is left behind."""
    command = ["predict", *arguments] if arguments[0].startswith(("n", "d")) else arguments
    done = here(home.root, *command, PREFECT_API_URL=home.api)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr, done
    assert not list(home.root.glob("p.*"))
