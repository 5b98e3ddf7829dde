"""The whole circle: scored, a drift seen, photographs suggested and labelled, retrained, a new champion answers."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from tests.conftest import copy_project
from tests.flows.browser import CHROMIUM
from tests.flows.demo import demo
from tests.flows.serving import ask, encoded, serving
from tests.flows.team import Team, unscheduled, until, up
from weathervane import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.drill]


def edited(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count, (path, pattern)
    path.write_text(text)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Servers and a worker for a project with an inbox, one small network, and a gate that opens for new data."""
    root = copy_project(tmp_path_factory.mktemp("circle"))
    for model in (root / "params/models").glob("*.yaml"):
        if model.stem != "dnn":
            model.unlink()
    edited(
        root / "params/models/dnn.yaml", ("epochs: 150", "epochs: 12"), (r"hidden: \[512, 256\]", "hidden: [32, 16]")
    )
    edited(root / "params/ingest.yaml", ("per_class: 100", "per_class: 25"))
    gate = [("margin: 0.03", "margin: 0.49"), ("min_images: 50", "min_images: 1"), ("ece_low: 0.1", "ece_low: 1.0")]
    edited(root / "params/register.yaml", *gate, ("_margin: 0.05", "_margin: 0.99"), ("_rise: 0.05", "_rise: 1.0"))
    unscheduled(root)
    with up(root, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="3") as team:
        yield team


def camera(folder: Path) -> dict[str, tuple[str, bytes]]:
    """40 photographs of the night: name → what they show, and their bytes. Nobody has labelled them."""
    folder.mkdir()
    shots = {}
    for number, (name, data) in enumerate(synthetic.images(10, seed=5)):
        with Image.open(io.BytesIO(data)) as day:
            buffer = io.BytesIO()
            ImageEnhance.Brightness(day).enhance(0.2).save(buffer, "JPEG", quality=92)
        shots[f"cam{number}.jpg"] = name.split("/")[0], buffer.getvalue()
        (folder / f"cam{number}.jpg").write_bytes(buffer.getvalue())
    return shots


def automatic(team: Team, known: set[str]) -> str:
    """The retraining that an automation has started meanwhile."""
    (run,) = until(lambda: [one for one in team.flow_runs() if one["id"] not in known], "the retraining")
    assert run["created_by"]["type"] == "AUTOMATION"
    return str(run["id"])


def test_the_circle(team: Team, tmp_path: Path) -> None:
    """Scored, watched, chosen, labelled, ingested, retrained, promoted, served: each step by what the one before left;
    a page that stays open follows the alias, and nothing leaves the machine."""
    root, cam, shots = team.root, tmp_path / "cam", camera(tmp_path / "cam")
    state = team.ended(team.start("retrain/nightly", {}))
    assert state["name"] == "Promoted", state["message"]

    table = tmp_path / "scores.parquet"
    state = team.ended(team.start("predict/by-hand", {"source": str(cam), "out": str(table)}))
    assert state["name"] == "Scored" and len(pd.read_parquet(table)) == len(shots), state

    known = {run["id"] for run in team.flow_runs()}
    seen = team.run("trigger", "monitor", "--source", str(table), "--wait")
    assert seen.returncode == 0 and "Drift: 40 photographs differ from the training data: brightness" in seen.stdout, (
        seen
    )
    (run,) = team.runs("monitoring")
    assert run.data.metrics["drift/alarm"] == 1 and run.data.metrics["drift/brightness"] > 0.9
    page = Path(team.client.download_artifacts(run.info.run_id, "report.html")).read_text(encoding="utf-8")
    assert page.count('src="data:image/png') == 2 and str(table) in page
    state = team.ended(automatic(team, known))
    assert state["name"] == "Unchanged", state["message"]

    chosen = tmp_path / "chosen"
    suggested = team.run("suggest", str(table), "--n", "16", "--out", str(chosen))
    assert suggested.returncode == 0, suggested
    assert (chosen / "contact-sheet-1.png").is_file()
    listed = pd.read_csv(chosen / "suggested.csv")
    assert len(listed) == 16 == len(list(chosen.glob("*.jpg"))) and set(listed["why"]) == {"unsure", "unfamiliar"}
    for file, path in zip(listed["file"], listed["path"], strict=True):  # a person looks, and sorts them
        label, data = shots[path]
        assert (chosen / file).read_bytes() == data
        (root / "inbox" / label).mkdir(parents=True, exist_ok=True)
        shutil.move(chosen / file, root / "inbox" / label / file)
    edited(root / "params/ingest.yaml", ("test_fraction", "- {kind: local, path: inbox}\ntest_fraction"))

    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(synthetic.render("rain", 901))
    with demo(root, **team.variables) if CHROMIUM else nullcontext() as page:
        if page:
            page.drop(photograph)
            page.wait_for("models:/weather-synthetic/1, trained on data")
            page.wait_for("a grey square hides a part of it")
        known = {run["id"] for run in team.flow_runs()}
        state = team.ended(team.start("ingest/inbox", {}))
        assert state["name"] == "Ingested", state["message"]
        assert sum(map(int, re.findall(r"\d+", state["message"]))) == 16
        state = team.ended(automatic(team, known))
        assert state["name"] == "Promoted", state["message"]
        assert team.ended(team.start("ingest/inbox", {}))["message"] == "nothing new"
        if page:
            (tmp_path / "none.jpg").write_text("no photograph")
            page.drop(tmp_path / "none.jpg")
            page.wait_for("not an image")
            page.drop(photograph)
            page.wait_for("models:/weather-synthetic/2, trained on data")
            page.wait_for("a grey square hides a part of it")
            assert page.asked == {"127.0.0.1"}

    champion = team.client.get_model_version_by_alias("weather-synthetic", "champion")
    assert champion.version == "2"
    with serving(root, "models:/weather-synthetic@champion", team.mlflow, tmp_path / "serve.log") as url:
        status, text = ask(url, encoded(photograph.read_bytes()))
    assert status == 200, text
    (answer,) = json.loads(text)["predictions"]
    (served,) = rows(team, photograph, tmp_path / "one.jsonl")
    assert served["model"] == "models:/weather-synthetic/2" and served["class"] == answer["class"]
    assert served["probability"] == pytest.approx(answer["probability"], abs=1e-5)


def rows(team: Team, source: Path, out: Path) -> list[dict[str, object]]:
    assert team.run("predict", str(source), "--out", str(out)).returncode == 0
    return [json.loads(line) for line in out.read_text().splitlines()]
