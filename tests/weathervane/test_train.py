"""Training in a process of its own: what goes in, what comes out, and what it needs."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
import torch

from weathervane.errors import InputError, TrainingError
from weathervane.fingerprint import FAMILY_LIST, sources
from weathervane.model import Model
from weathervane.models import FAMILIES
from weathervane.store import Store
from weathervane.train import read_job, train

ROOT = Path(__file__).parents[2]
VARIANT = {
    "family": "dnn",
    "size": 32,
    "flip_test": True,
    "network": {"hidden": [64, 32], "activation": "relu", "norm": True, "dropout": 0.1, "input_size": 16},
    "augment": {"crop": [0.7, 1], "ratio": 1.2, "rotate": 5, "flip": True, "brightness": 0.1, "contrast": 0.1}
    | {"saturation": 0.1, "erase": 0, "mixup": 0, "cutmix": 0},
    "train": {"epochs": 3, "batch": 16, "optimizer": "adamw", "lr": 1e-3, "warmup": 0.2, "weight_decay": 0.05}
    | {"label_smoothing": 0.1, "ema": 0.9, "bfloat16": False},
}


@pytest.fixture
def job(store: Store, tmp_path: Path) -> dict[str, Any]:
    """What job.json says."""
    about = {"dataset": "test"}
    job = {"name": "small", "variant": json.loads(json.dumps(VARIANT)), "data": str(store.folder), "device": "cpu"}
    return job | {"seed": 0, "fold": 0, "threads": 1, "about": about}


def write(folder: Path, job: Any) -> Path:
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder


def child(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", "weathervane.train", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_job_becomes_a_model_and_an_outcome(job: dict[str, Any], store: Store, tmp_path: Path) -> None:
    """Exit status 0: model/, outcome.json, one metrics line an epoch, also for a reader who opened the file before;
    what an earlier try left is gone. The child has imported none of the three engines and no torchvision, and none of
    our own modules that the fingerprint does not know."""
    for name in ("outcome.json", "error.json", "metrics.jsonl"):
        (tmp_path / name).write_text("stale", encoding="utf-8")
    with open(write(tmp_path, job) / "metrics.jsonl", encoding="utf-8") as reader:
        ended = child(tmp_path, "-X", "importtime")
        lines = [json.loads(line) for line in reader]
    assert ended.returncode == 0, ended.stderr
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    outcome = json.loads((tmp_path / "outcome.json").read_text(encoding="utf-8"))
    best = lines[outcome["best_epoch"] - 1]["metrics"]
    assert outcome["val_accuracy"] == best["val_accuracy"]
    assert (outcome["device"], outcome["device_name"], outcome["threads"]) == ("cpu", "cpu", 1)
    assert outcome["whole_seconds"] > outcome["seconds"] > 0 and outcome["images_per_second"] > 0
    assert 50e6 < outcome["peak_memory_bytes"] < 20e9 and outcome["peak_device_memory_bytes"] == 0
    assert not (tmp_path / "error.json").exists()
    assert Model.load(tmp_path / "model").spec.about == {"dataset": "test"}

    imported = set(re.findall(r"\|\s+([\w.]+)$", ended.stderr, flags=re.M))
    assert "torch" in imported
    assert not imported & {"prefect", "mlflow", "dvc", "torchvision", "sklearn", "matplotlib", "torch._dynamo"}
    own = {name for name in imported if name.split(".")[0] == "weathervane"}
    known = [*sources("weathervane.train", FAMILIES["dnn"]), FAMILY_LIST]
    dotted = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in known}
    assert "weathervane.augment" in own <= dotted


@pytest.mark.fault(24)
@pytest.mark.slow
def test_an_absent_device_is_bad_input(job: dict[str, Any], tmp_path: Path) -> None:
    """Exit status 2, one line that names the device, the same in error.json, and no outcome, not even a stale one."""
    (tmp_path / "outcome.json").write_text("stale", encoding="utf-8")
    ended = child(write(tmp_path, job | {"device": "cuda:99"}))
    assert ended.returncode == 2
    assert ended.stderr.startswith("--device cuda:99: not available here") and ended.stderr.count("\n") == 1
    assert json.loads((tmp_path / "error.json").read_text(encoding="utf-8")) == {
        "error": ended.stderr.strip(),
        "status": 2,
    }
    assert not (tmp_path / "outcome.json").exists() and not (tmp_path / "model").exists()


def test_a_bad_job_is_one_line(job: dict[str, Any], tmp_path: Path) -> None:
    """Exit status 2 and one clear line without a traceback, told before torch is imported; a folder that is not there
    is not made."""
    job["variant"]["train"]["epoch"] = job["variant"]["train"].pop("epochs")
    ended = child(write(tmp_path, job), "-X", "importtime")
    told = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    assert ended.returncode == 2
    assert len(told) == 1 and "job.json: unknown key 'variant.train.epoch' (did you mean 'epochs'?)" in told[0]
    assert " torch\n" not in ended.stderr
    absent = child(tmp_path / "absent")
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path}/absent/job.json: not readable" in absent.stderr
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"name": "small"}'])
def test_a_damaged_job_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    """Whatever job.json holds, the error names it."""
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(InputError, match=r"job\.json: "):
        read_job(tmp_path)


@pytest.mark.parametrize("change", [{"seed": -1}, {"fold": -1}, {"threads": -1}, {"device": 3}, {"wombats": 1}])
def test_a_value_out_of_range_is_refused_by_key(job: dict[str, Any], tmp_path: Path, change: dict[str, Any]) -> None:
    """So is a key that nobody knows."""
    with pytest.raises(InputError, match=f"job.json: .*'{next(iter(change))}'"):
        read_job(write(tmp_path, job | change))


def test_a_dataset_that_is_not_there_is_bad_input(job: dict[str, Any], tmp_path: Path) -> None:
    """The message names the folder that holds no prepared images."""
    with pytest.raises(InputError, match="nowhere: no manifest"):
        train(write(tmp_path, job | {"data": str(tmp_path / "nowhere")}))


def no_memory_on_a_cpu() -> RuntimeError:
    """As torch itself raises it."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def test_out_of_memory_between_steps_is_one_line(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Augmentation or validation that find no memory on a GPU or a CPU end the training with what to lower; raised by
    hand. What a step has said of it stands as it is."""
    lower = r": lower size \(.*\), the network, train.batch or --memory$"
    for error, told in (
        (
            torch.OutOfMemoryError("tried to allocate\n2.00 GiB"),
            r"^out of memory \(tried to allocate 2.00 GiB\)" + lower,
        ),
        (RuntimeError("MPS backend out of memory"), r"^out of memory \(MPS backend out of memory\)" + lower),
        (no_memory_on_a_cpu(), r"^out of memory \(.*can't allocate memory.*\)" + lower),
        (TrainingError("out of memory with 2 images"), "^out of memory with 2 images$"),
    ):
        monkeypatch.setattr("weathervane.fit.validate", Mock(side_effect=error))
        with pytest.raises(TrainingError, match=told):
            train(write(tmp_path, job))


@pytest.mark.fault(36)
@pytest.mark.slow
def test_a_training_that_fails_has_status_1(job: dict[str, Any], tmp_path: Path) -> None:
    """The error names the epoch, in error.json and on the last line; there is no outcome."""
    job["variant"]["train"] |= {"optimizer": "sgd", "lr": 1e30, "ema": 0}
    ended = child(write(tmp_path, job))
    assert ended.returncode == 1
    assert re.fullmatch(
        r"loss is \S+ in epoch 1, step \d of 3 \(its batch: .* and 15 others\): lower train.lr\n", ended.stderr
    )
    assert json.loads((tmp_path / "error.json").read_text(encoding="utf-8"))["error"] == ended.stderr.strip()
    assert not (tmp_path / "outcome.json").exists()
    with pytest.raises(TrainingError):
        train(tmp_path)


START = """
import subprocess, sys, time
from weathervane import lifeline
child = subprocess.Popen(
    [sys.executable, *sys.argv[1:]], env=lifeline.environment(), start_new_session=True, stderr=subprocess.DEVNULL
)
print(child.pid, flush=True)
time.sleep(600)
"""


def start(*arguments: str) -> tuple["subprocess.Popen[str]", psutil.Process]:
    """A parent that started `python *arguments` on a lifeline, and that child."""
    command = [sys.executable, "-c", START, *arguments]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    return parent, psutil.Process(int(parent.stdout.readline()))


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_until(true: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(true())


@pytest.mark.fault(33)
@pytest.mark.slow
def test_a_training_does_not_outlive_its_parent(job: dict[str, Any], tmp_path: Path) -> None:
    """In the middle of training, 10 s after its parent was killed with SIGKILL at the latest, the child is gone."""
    job["variant"]["train"]["epochs"] = 1_000_000
    parent, training = start("-m", "weathervane.train", str(write(tmp_path, job)))
    try:
        record = tmp_path / "metrics.jsonl"
        assert wait_until(lambda: record.is_file() and record.stat().st_size > 0, 60)
        assert not gone(training)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: gone(training), 10)
    finally:
        parent.kill()
        if not gone(training):
            training.kill()


@pytest.mark.slow
def test_a_child_that_will_not_leave_is_made_to(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed a little later; while its parent lives it is left alone."""
    code = "import signal, time; from weathervane import lifeline; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += f"lifeline.GRACE = 0.5; lifeline.hold(); open({str(tmp_path / 'held')!r}, 'w').close(); time.sleep(600)"
    parent, stubborn = start("-c", code)
    try:
        assert wait_until((tmp_path / "held").exists, 20)
        time.sleep(1.2)
        assert not gone(stubborn)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: gone(stubborn), 5)
    finally:
        parent.kill()
        if not gone(stubborn):
            stubborn.kill()


def test_started_by_hand_nothing_is_held() -> None:
    """Without a parent that asked for it, `hold` starts no thread; the variable is not handed on to grandchildren."""
    code = "import os, threading; from weathervane import lifeline; lifeline.hold()\n"
    code += "print(threading.active_count(), lifeline.VARIABLE in os.environ)"
    environment = {key: value for key, value in os.environ.items() if key != "WEATHERVANE_PARENT"}
    for held, told in (({}, "1 False"), ({"WEATHERVANE_PARENT": str(os.getpid())}, "2 False")):
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, cwd=ROOT, env=environment | held, capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == told
