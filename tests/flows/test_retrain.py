"""The command `weathervane retrain`, from the shell to what MLflow, Prefect and DVC hold afterwards."""

import json
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.outcome import VariantsFailed
from flows.retrain_command import show
from tests.conftest import Here, copy_project
from tests.flows.conftest import FAST, WEATHERVANE, Home, environment, weathervane
from weathervane import variant
from weathervane.progress import console

PICTURES = {"augmentation.png", "confusion.png"}
HEAVY = {"prefect", "mlflow", "torch", "dvc", "pandas", "sklearn"}


@pytest.mark.slow
def test_a_first_retraining_ends_with_a_table_and_what_to_do_next(home: Home) -> None:
    """From a fresh clone, one command leads to a champion; the person reads accuracies, the decision, and what next."""
    assert home.first.returncode == 0, home.first.stderr
    assert home.first.stderr == ""
    out = home.first.stdout
    for name in variant.defaults(home.root):
        row = rf"^{name} +[01]\.\d{{3}} \(0\.\d{{3}}–[01]\.\d{{3}}\) +[01]\.\d{{3}} +[01]\.\d{{3}} +\d+"
        assert re.search(row, out, re.M), out
    assert len(re.findall("champion: the first champion", out)) == 1
    assert "rendered pictures: figures say nothing about photographs" in out
    how = "next:" if shutil.which("weathervane") else "next, after 'source .venv/bin/activate':"
    after = out.split(f"{how}\n")[1].splitlines()
    assert len(after) == 3 and all(line.strip().startswith("weathervane ") for line in after)
    assert "cached" not in out and "lock file" not in out


@pytest.mark.slow
def test_mlflow_has_one_parent_and_a_child_for_each_variant(home: Home) -> None:
    """In MLflow, a retraining is one run with a child for each variant: parameters, a curve, figures with the test set
    that they are of, pictures, predictions, the model, and the version of the data."""
    (parent,) = home.runs("retraining")
    children = home.runs("variant")
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * (1 + len(children))
    assert sorted(run.data.tags["variant"] for run in children) == variant.defaults(home.root)
    tracked = (home.root / "data/raw.dvc").read_text()
    assert parent.data.tags["decision"] == "promoted"
    assert parent.data.tags["mlflow.note.content"].count("\n| ") == 1 + len(children)
    assert parent.data.tags["data_md5"] in tracked
    assert len({run.data.tags["test_set"] for run in children}) == 1
    for run in children:
        name = run.data.tags["variant"]
        assert re.fullmatch(rf"{name} \d\d-\d\d \d\d:\d\d:\d\d", run.info.run_name)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["train.epochs"] == "2"
        assert run.data.tags["device"] == "cpu" and run.data.tags["precision"] in ("bfloat16", "float32")
        files = {file.path for file in home.mlflow.list_artifacts(run.info.run_id)}
        assert files >= {*PICTURES, "predictions", "model"}, name
        picture = Path(run.info.artifact_uri) / "augmentation.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        (data,) = run.inputs.dataset_inputs
        assert data.dataset.digest == parent.data.tags["data_md5"]
        assert data.dataset.digest.endswith(".dir") and data.dataset.digest in tracked
        profile = json.loads(data.dataset.profile)
        assert (profile["images"], profile["split test"], profile["class rain"]) == (60, 12, 15)
        for metric in ("train_loss", "val_loss", "val_accuracy", "lr", "seconds"):
            history = home.mlflow.get_metric_history(run.info.run_id, f"epoch/{metric}")
            assert [point.step for point in history] == [1, 2], (name, metric)
        for part, images in (("val", 12), ("test", 12)):
            assert run.data.metrics[f"{part}/images"] == images
            low, accuracy, high = (run.data.metrics[f"{part}/accuracy{end}"] for end in ("_low", "", "_high"))
            assert 0 <= low < accuracy < high <= 1 or accuracy in (0.0, 1.0)
    best = max(children, key=lambda run: (run.data.metrics["val/accuracy"], -run.data.metrics["val/log_loss"]))
    champion = home.mlflow.get_model_version_by_alias("weather-synthetic", "champion")
    assert champion.run_id == best.info.run_id
    assert [run.info.run_id for run in children if run.data.tags.get("became") == "champion"] == [best.info.run_id]
    for run in children:
        accuracy = f"test accuracy {run.data.metrics['test/accuracy']:.3f} ("
        assert accuracy in run.data.tags["mlflow.note.content"]
    assert best.data.tags["mlflow.note.content"].startswith("**champion**: the first champion")
    assert (parent.data.params["seed"], parent.inputs.dataset_inputs) == ("0", best.inputs.dataset_inputs)
    told = parent.data
    assert told.metrics["champion/test_accuracy"] == best.data.metrics["test/accuracy"]
    assert all(told.metrics[f"seconds/{step}"] > 0 for step in ("ingest", *variant.defaults(home.root), "register"))
    assert told.tags["trigger"] == "command line" and told.tags["data_changed"] == "the first version"
    assert "torch 2." in told.tags["libraries"] and "dvc 3." in told.tags["libraries"]


@pytest.mark.slow
def test_prefect_shows_the_flow_completed_with_its_steps(home: Home) -> None:
    """With PREFECT_API_URL set, the retraining is seen in Prefect, step by step."""
    (parent,) = home.runs("retraining")
    state, tasks = home.flow_run(parent)
    assert state == "Promoted"
    steps = [re.sub("-[0-9a-f]{3}$", "", name) for name in tasks]
    names = variant.defaults(home.root)
    assert steps[:3] == ["end dead runs", "ingest", "prepare"]
    assert [step for step in steps if step.startswith("train ")] == [f"train {name}" for name in names]
    assert [step for step in steps if step.startswith("evaluate ")] == [f"evaluate {name}" for name in names]
    assert steps[-3:] == ["report", "register", "close retraining"]


@pytest.mark.slow
def test_git_and_dvc_have_the_data_on_record(home: Home) -> None:
    """After a retraining, git sees the data's two files and nothing else, and DVC has nothing to do."""
    status = subprocess.run(["git", "status", "--porcelain"], cwd=home.root, capture_output=True, text=True)
    assert status.stdout.split() == ["M", "data/raw.dvc", "M", "dvc.lock"]
    dvc = [sys.executable, "-m", "dvc", "status"]
    told = subprocess.run(dvc, cwd=home.root, capture_output=True, text=True, check=True)
    assert "up to date" in told.stdout


@pytest.mark.slow
def test_a_second_time_nothing_is_trained_and_nothing_heavy_loaded(home: Home) -> None:
    """The same command again says that nothing changed, within 3 s, before Prefect, torch, MLflow or DVC are loaded."""
    before, used = len(home.runs()), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = home.retrain(*FAST, PYTHONPROFILEIMPORTTIME="1")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to do (weather-synthetic, data ")
    assert all(f"{name}: unchanged since run " in done.stdout for name in variant.defaults(home.root))
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & HEAVY
    assert len(home.runs()) == before
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 3


@pytest.mark.parametrize(
    ("given", "told"),
    [(["--variants"], "--variants"), (["--set", "--plan"], "--set"), (["--variants", "--set", "seed=1"], "--variants")],
)
def test_an_option_without_its_value_is_refused(given: list[str], told: str, tmp_path: Path) -> None:
    """An empty $VARIANTS is no wish for the defaults: exit status 2 and the option's name, before anything is done."""
    done = weathervane(tmp_path, "retrain", *given)
    assert (done.returncode, done.stderr) == (2, f"weathervane: {told}: a value is missing\n")


@pytest.mark.fault(23)
@pytest.mark.slow
@pytest.mark.parametrize("hours", [-1, 24])
def test_a_clock_that_jumps_retrains_nothing(home: Home, tmp_path: Path, hours: int) -> None:
    """What was done is known by what it was done with, not by when: after a jump of the clock nothing is to be done."""
    jump = f"import time\nnow = time.time\ntime.time = lambda: now() + {3600 * hours}\n"
    (tmp_path / "sitecustomize.py").write_text(jump)
    before = len(home.runs())
    again = home.retrain(*FAST, PYTHONPATH=f"{tmp_path}:{home.root}")
    assert again.returncode == 0 and again.stdout.startswith("nothing to do"), again
    assert len(home.runs()) == before


@pytest.mark.slow
def test_a_plan_trains_nothing(home: Home) -> None:
    """`--plan` says what would be trained, why and about how long, and leaves it at that."""
    before = len(home.runs())
    done = home.retrain("--plan", *FAST, "dnn.train.epochs=20")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^dnn: would be trained \(--set: train\.epochs 2 → 20, about \d+ s\)$", done.stdout, re.M), (
        done.stdout
    )
    assert "cnn: unchanged since run " in done.stdout
    assert len(home.runs()) == before


def told_in_prefect(home: Home, flow_run: str) -> list[str]:
    """What Prefect's page shows of our own lines in a flow run; logs are sent in batches."""
    wanted = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC"}
    return [log["message"] for log in home.ask("logs/filter", wanted) if log["name"] == "weathervane"]


@dataclass(frozen=True)
class Changed:
    """A retraining in JSON for which one variant is unchanged, one has changed, and one cannot be trained."""

    done: "subprocess.CompletedProcess[str]"
    runs: dict[str, Any]  # that it made, by the first word of their names
    champion: Any  # of before

    @property
    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.done.stdout.splitlines()]


@pytest.fixture(scope="module")
def changed(home: Home) -> Changed:
    before = {run.info.run_id for run in home.runs()}
    champion = home.mlflow.get_model_version_by_alias("weather-synthetic", "champion")
    done = home.retrain(*FAST, "cnn.train.lr=1e38", "dnn.train.epochs=3", WEATHERVANE_LOG="json")
    made = {run.info.run_name.split()[0]: run for run in home.runs() if run.info.run_id not in before}
    return Changed(done, made, champion)


@pytest.mark.slow
def test_a_line_for_each_step_in_json_and_on_prefects_page(home: Home, changed: Changed) -> None:
    """With WEATHERVANE_LOG=json, stdout is one JSON object a line; each step says when it begins and ends, with the
    seconds, the flow run, MLflow's run and the dataset; Prefect's page of the run has the same lines."""
    assert changed.done.stderr == ""
    lines, parent = changed.lines, changed.runs["retrain"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", line["time"]) for line in lines)
    assert {line["level"] for line in lines} == {"info", "error"}
    ours = [line for line in lines if line["logger"] == "weathervane"]
    assert any(line["logger"].startswith("prefect.") for line in lines)
    (ended,) = (line for line in ours if line["message"].startswith("dnn: ended after "))
    told = r"dnn: ended after \d+\.\d s, test accuracy [01]\.\d{3}, MLflow run [0-9a-f]{32}"
    assert re.fullmatch(told, ended["message"])
    flow_run = parent.data.tags["prefect_flow_run"]
    assert {key: ended[key] for key in ("step", "flow_run", "mlflow_run", "dataset")} == {
        "step": "dnn",
        "flow_run": flow_run,
        "mlflow_run": parent.info.run_id,
        "dataset": "weather-synthetic",
    }
    for step in ("ingest", "prepare", "dnn", "register", "report"):
        begins = [line["message"] for line in ours if line.get("step") == step]
        assert re.match(rf"{step}: started( \(.+\))?$", begins[0]) and begins[-1].startswith(f"{step}: ended after ")
    page = told_in_prefect(home, parent.data.tags["prefect_flow_run_id"])
    assert [line["message"] for line in ours if line.get("flow_run") == flow_run] == page


@pytest.mark.slow
def test_a_flow_that_a_worker_runs_is_heard_as_well(home: Home) -> None:
    """Where Prefect was imported before anything of ours, as in a worker, a flow's lines are on stdout, each once, and
    on Prefect's page."""
    code = f"import prefect\nfrom flows.retrain import retrain\nretrain(changes={FAST[1:]})"
    env = environment(home.root, PREFECT_API_URL=home.api)
    known = {run["id"] for run in home.ask("flow_runs/filter", {})}
    done = subprocess.run([sys.executable, "-c", code], cwd=home.root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (fresh,) = (run["id"] for run in home.ask("flow_runs/filter", {}) if run["id"] not in known)
    page = told_in_prefect(home, fresh)
    assert page[-1].startswith("nothing to do: ") and page == done.stdout.splitlines()


@pytest.mark.slow
def test_what_a_person_can_put_right_has_no_traceback_on_the_page(home: Home, changed: Changed) -> None:
    """Prefect's page tells of a variant that cannot be trained in a line that says what to do, without our code."""
    flow_run = changed.runs["retrain"].data.tags["prefect_flow_run_id"]
    logs = home.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [flow_run]}, "level": {"ge_": logging.ERROR}}})
    told = [log["message"] for log in logs if log["name"] == "prefect.task_runs"]
    assert any("lower train.lr" in message for message in told), logs
    assert not [message for message in told if "Traceback" in message]


@pytest.mark.fault(36)
@pytest.mark.slow
def test_what_changed_is_trained_and_a_failure_takes_nobody_along(home: Home, changed: Changed) -> None:
    """Of three variants, one is unchanged and stands, one is trained anew, and one cannot be trained: the first two are
    compared and decided on, the third is told with its reason; the command and the flow end as failed."""
    done, fresh = changed.done, changed.runs
    assert done.returncode == 1, done.stdout + done.stderr
    assert not [line for line in changed.lines if line["logger"] == "weathervane" and "Traceback" in line["message"]]
    states = {name: run.info.status for name, run in fresh.items()}
    assert states == {"retrain": "FAILED", "cnn": "FAILED", "dnn": "FINISHED"}
    assert "lower train.lr" in fresh["cnn"].data.tags["failure"]
    table = "\n".join(line["message"] for line in changed.lines if line["message"].startswith("variant: "))
    assert re.search(r"^variant: cnn; test accuracy \(95 %\): failed; .* cnn: .* lower train\.lr", table, re.M), table
    assert re.search(r"^variant: lstm; .* seconds: reused", table, re.M), table
    assert fresh["retrain"].data.tags["decision"] in ("promoted", "not promoted")
    assert fresh["retrain"].data.tags["best_variant"] in ("dnn", "lstm")
    assert home.flow_run(fresh["retrain"])[0] == "Failed"
    version = home.mlflow.get_model_version_by_alias("weather-synthetic", "champion")
    assert version.run_id in (changed.champion.run_id, fresh["dnn"].info.run_id)
    versions = home.mlflow.search_model_versions("name = 'weather-synthetic'")
    assert fresh["cnn"].info.run_id not in {version.run_id for version in versions}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which nothing was ever done."""
    return copy_project(tmp_path_factory.mktemp("clean"))


def folder_of(root: Path, **counts: int) -> Path:
    """A folder of class folders with so many images each, outside of the project."""
    from PIL import Image

    source = root.parent / f"photographs {' '.join(counts)}"
    shutil.rmtree(source, ignore_errors=True)
    for label, count in counts.items():
        (source / label).mkdir(parents=True)
        for number in range(count):
            Image.effect_noise((64, 64), 40 + number).convert("RGB").save(source / label / f"{number}.png")
    return source


BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "variant": (lambda root: ["--variants", "cnn", "vit"], "no variant 'vit'; params/models/ has ann, "),
    "parameter": (lambda root: ["--set", "train.epoch=5"], "no key 'epoch' (did you mean 'epochs'?)"),
    "value": (lambda root: ["--set", "cnn.train.epochs=0"], "'train.epochs' is 0: "),
    "several names": (lambda root: ["--variants", "cnn,lstm"], "names stand apart by spaces: --variants cnn lstm"),
    "device": (lambda root: ["--device", "gpu"], "--device gpu: it is one of auto, cpu, mps, cuda, and cuda:1"),
    "device that is not there": (lambda root: ["--device", "cuda:99"], "--device cuda:99: not available here"),
    "missing folder": (lambda root: ["--source", "no/such/folder"], "source no/such/folder: no such folder or archive"),
    "nobody's home": (lambda root: ["--source", "~nobody-of-that-name/x"], "source ~nobody-of-that-name/x: Could not"),
    "long name": (lambda root: ["--source", "x" * 300], f"source {'x' * 300}: [Errno"),
    "empty class": (lambda root: ["--source", str(folder_of(root, rain=12, shine=12, snow=0))], "'snow' is empty"),
    "one class": (lambda root: ["--source", str(folder_of(root, rain=12))], "only the class 'rain'"),
    "few images": (lambda root: ["--source", str(folder_of(root, rain=12, shine=3))], "class 'shine' has 3 images"),
    "dataset": (lambda root: ["--dataset", "My Weather"], "'dataset' is 'My Weather': up to 63 of a-z, 0-9, _ and -"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "told"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    home: Home, clean: Path, here: Here, arguments: Callable[[Path], list[str]], told: str
) -> None:
    """Exit status 2 and one line that names what is wrong; params, data and stores are as they were."""
    done = here(clean, "retrain", *arguments(clean), PREFECT_API_URL=home.api)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("weathervane: ") and done.stderr.count("\n") == 1
    assert told in done.stderr
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clean, capture_output=True, text=True)
    assert status.stdout == ""
    assert not (clean / "mlflow.db").exists() and not (clean / "data/raw").exists()


def test_what_to_do_next_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no champion, how to make one; another source only to whom rendered pictures were trained on; and
    no cell of the table is broken where nobody's terminal is too narrow."""
    monkeypatch.setattr(console(), "width", 80)
    figures = {"test_accuracy": 0.8, "low": 0.7, "high": 0.9, "macro_f1": 0.8, "val_accuracy": 0.8, "seconds": 1.0}
    why = "no champion yet: " + "w" * 100
    row = figures | {"reused": False, "variant": "a" * 90, "decision": "challenger", "why": why}
    summary = {"rows": [row], "dataset": "weather", "decision": "not promoted", "why": row["why"]}
    show(summary | {"synthetic": False, "promotable": "2"})
    said = capsys.readouterr().out
    assert "a" * 90 in said and "weathervane promote 2 --why '...'" in said and "--source" not in said
    show(summary | {"synthetic": True, "promotable": ""})
    said = capsys.readouterr().out
    assert "--source FOLDER" in said and "promote" not in said.partition("next")[2]


@pytest.mark.slow
def test_a_wrong_option_is_refused(clean: Path) -> None:
    """What the command line does not understand is refused with status 2 and the option's name."""
    for arguments in (["--seed", "many"], ["--epochs", "5"]):
        done = weathervane(clean, "retrain", *arguments)
        assert done.returncode == 2
        assert arguments[0] in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


@pytest.mark.fault(19)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "told"),
    [("MLFLOW_TRACKING_URI", "no MLflow server answers there"), ("PREFECT_API_URL", "no Prefect server answers there")],
)
def test_a_server_that_is_down_stops_it_before_it_begins(home: Home, clean: Path, variable: str, told: str) -> None:
    """Nothing is ingested or trained that could not be recorded; the password stays out of the log."""
    variables = {"PREFECT_API_URL": home.api, variable: "http://anna:secret@127.0.0.1:9/api"}
    done = weathervane(clean, "retrain", **variables)
    assert done.returncode == 2
    assert told in done.stderr and variable in done.stderr and done.stderr.count("\n") == 1
    assert "secret" not in done.stdout + done.stderr
    assert not (clean / "data/raw").exists()


@pytest.mark.fault(32, drilled=4)
@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_an_interrupted_retraining_leaves_no_process_and_no_running_run(
    home: Home, number: signal.Signals, status: int, again: int
) -> None:
    """Stopped while it trains, by Ctrl-C or by a worker, the command is gone with all its processes within 15 s (40 s
    with a Prefect server of its own, which took 26 s once on a busy machine), and MLflow shows its runs as killed."""
    before = {run.info.run_id for run in home.runs()}
    training = home.root / ".weathervane/training"
    started = set(training.glob("*/metrics.jsonl"))
    own_server = number == signal.SIGINT
    limit = 40 if own_server else 15
    process = subprocess.Popen(
        [str(WEATHERVANE), "retrain", "--variants", "dnn", "--set", f"train.epochs={100_000 + number + 100 * again}"],
        cwd=home.root,
        env=environment(home.root, **({} if own_server else {"PREFECT_API_URL": home.api})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not any(record.stat().st_size for record in set(training.glob("*/metrics.jsonl")) - started):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 1 + own_server
        began = time.monotonic()
        if own_server:
            os.killpg(process.pid, number)  # a terminal's Ctrl-C is for the whole group
        else:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=max(0.1, began + limit - time.monotonic()))
        assert alive == []
        assert time.monotonic() - began < limit
    finally:
        process.kill()
    assert process.returncode == status, out + err
    if own_server:
        assert "the same command goes on from there" in out and "stops when its checkpoint is written" in out
    assert "Traceback" not in out + err
    ended = [(run.data.tags["kind"], run.info.status) for run in home.runs() if run.info.run_id not in before]
    assert ended == [("retraining", "KILLED"), ("variant", "KILLED")]


def test_a_promotion_beside_a_failure_is_told() -> None:
    """The message of a retraining that failed for one variant names the champion that another one has become."""
    summary = {"decision": "promoted", "variant": "cnn", "why": "better, p = 0.01"}
    told = str(VariantsFailed({"dnn": "loss is nan"}, summary))
    assert told == "dnn: loss is nan; promoted all the same: cnn: better, p = 0.01"
    assert str(VariantsFailed({"dnn": "loss is nan"}, summary | {"decision": "not promoted"})) == "dnn: loss is nan"
