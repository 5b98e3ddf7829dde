"""Several processes that train one variant together, on the CPU, as torchrun starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tasks.training_process import ON_LOOPBACK, command
from tests.weathervane.test_train import VARIANT, write
from weathervane.errors import InputError
from weathervane.lifeline import environment
from weathervane.ranks import Ranks
from weathervane.store import Store

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def job(store: Store, **network: Any) -> dict[str, Any]:
    """Of a network without dropout, and unless it is asked for without normalisation; with mixup between the parts."""
    variant = json.loads(json.dumps(VARIANT))
    variant["network"] |= {"norm": False, "dropout": 0} | network
    variant["augment"] |= {"mixup": 0.2}
    about: dict[str, Any] = {"name": "small", "variant": variant, "data": str(store.folder), "device": "cpu", "seed": 0}
    return about | {"fold": 0, "threads": 1, "about": {}}


def start(folder: Path, content: dict[str, Any], processes: int, script: str = "") -> "subprocess.Popen[str]":
    folder.mkdir(exist_ok=True)
    words = command(write(folder, content), processes)
    return subprocess.Popen(
        [sys.executable, "-m", *([*words[:-3], script, words[-1]] if script else words)],
        cwd=ROOT,
        env=environment() | ON_LOOPBACK,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def curve(folder: Path, key: str) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["metrics"][key] for line in lines]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_have_the_loss_curve_of_one(accumulate: int, store: Store, tmp_path: Path) -> None:
    """Each has a half of every batch, at once or in two parts, and losses and weights are those of one process, but for
    rounding; what is written is written once."""
    content = job(store)
    content["variant"]["train"] |= {"accumulate": accumulate, "bfloat16": False}
    for name, processes in (("one", 1), ("two", 2)):
        done = start(tmp_path / name, content, processes)
        output = done.communicate(timeout=240)[0]
        assert done.returncode == 0, output
        assert json.loads((tmp_path / name / "outcome.json").read_text())["processes"] == processes
    for key in ("train_loss", "val_loss"):
        one, two = curve(tmp_path / "one", key), curve(tmp_path / "two", key)
        assert len(one) == 3 and two == pytest.approx(one, rel=1e-4)
    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    assert all(two[key].sub(one[key]).abs().max() < 1e-3 for key in one)


@pytest.mark.drill
def test_with_dropout_and_normalisation_each_goes_its_own_way(store: Store, tmp_path: Path) -> None:
    """No two processes drop the same units, though they share every other random number; the training comes to about
    the same loss as that of one."""
    assert len({Ranks(own, 4).seed(0, 100) for own in range(4)}) == 4
    for name, processes in (("one", 1), ("two", 2)):
        done = start(tmp_path / name, job(store, norm=True, dropout=0.3), processes)
        output = done.communicate(timeout=240)[0]
        assert done.returncode == 0, output
    one, two = (curve(tmp_path / name, "train_loss") for name in ("one", "two"))
    assert one != two and two == pytest.approx(one, rel=0.2)


IMPATIENT = """
import sys
from weathervane import checkpoint, resume
from weathervane.train import main

write, resume.LONG, resume.SHARE = checkpoint.write, 0.3, 1.0
resume.Checkpoints.save_if_cheap = lambda *_: None

def counted(*arguments):
    print("a checkpoint")
    write(*arguments)

checkpoint.write = counted
sys.exit(main())
"""


@pytest.mark.drill
def test_long_epochs_do_not_make_every_step_a_checkpoint(store: Store, tmp_path: Path) -> None:
    """The first process alone says when one is due, since it alone knows when it wrote the last."""
    content = job(store)
    content["variant"]["train"]["epochs"] = 300
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    child = start(tmp_path / "long", content, 2, str(tmp_path / "impatient.py"))
    output = child.communicate(timeout=240)[0]
    assert child.returncode == 0, output
    spent = json.loads((tmp_path / "long/outcome.json").read_text())["seconds"]
    assert 2 <= output.count("a checkpoint") <= spent / 0.3 + 2, output


def test_a_batch_of_all_that_there_is_is_told_as_such() -> None:
    """A batch that was asked for larger, and is all images there are, cannot be made larger: the way out is below."""
    Ranks(0, 2).check_batch(96, 97)
    with pytest.raises(InputError, match="make it a multiple of 2 below 97, since there are only 97 to train on"):
        Ranks(0, 2).check_batch(97, 97)


def test_what_cannot_be_shared_is_refused(store: Store, tmp_path: Path) -> None:
    """A batch that does not fall into equal parts is bad input, told in error.json, whatever torchrun's status is."""
    content = job(store)
    content["variant"]["train"]["batch"] = 15
    done = start(tmp_path / "two", content, 2)
    output = done.communicate(timeout=240)[0]
    assert done.returncode != 0, output
    told = json.loads((tmp_path / "two/error.json").read_text())
    assert told == {
        "error": "train.batch: 15 images cannot be shared evenly by 2 processes, two or more for each: "
        "make it a multiple of 2",
        "status": 2,
    }


@pytest.mark.parametrize(
    ("gpus", "mps", "name", "found"),
    [
        (0, False, "auto", "cpu"),
        (0, True, "auto", "cpu"),
        (0, True, "mps", "--processes: each takes a CUDA GPU of its own, and this machine has 0: ask for as many"),
        (
            1,
            False,
            "auto",
            "--processes: each takes a CUDA GPU of its own, and this machine has 1: ask for as many",
        ),
        (2, False, "auto", "cuda:1"),
        (1, False, "cpu", "cpu"),
    ],
)
def test_the_second_of_two_processes_has_a_gpu_of_its_own(
    gpus: int, mps: bool, name: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are too few, the message names what to change; Apple's GPU is nobody's, and `auto` is the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    try:
        told = str(Ranks(1, 2, 1).device(name))
    except InputError as error:
        told = str(error)
    assert told.startswith(found)


def test_what_a_job_of_a_cluster_says_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORLD_SIZE in a pod or a job's script has a training in one process wait for nobody; torchrun's is heeded."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert Ranks.from_environment() == Ranks()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert Ranks.from_environment() == Ranks(1, 2, 1)


@pytest.mark.drill
def test_asked_to_leave_they_save_and_go_on_together(store: Store, tmp_path: Path) -> None:
    """SIGTERM in the middle: one checkpoint, no process left; started again, every epoch is there, and once."""
    content = job(store, norm=True)
    content["variant"]["train"]["epochs"] = 200
    child = start(tmp_path / "stopped", content, 2)
    record = tmp_path / "stopped/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not record.exists() or record.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline and child.poll() is None, child.communicate()[0]
        time.sleep(0.05)
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) == 2
    os.kill(child.pid, signal.SIGTERM)
    output = child.communicate(timeout=60)[0]
    assert child.returncode != 0 and not [one for one in family if one.is_running()], output
    assert "interrupted in epoch" in output and len(list((tmp_path / "stopped/checkpoints").iterdir())) >= 1
    again = start(tmp_path / "stopped", content, 2)
    output = again.communicate(timeout=240)[0]
    assert again.returncode == 0, output
    assert [json.loads(line)["epoch"] for line in record.read_text().splitlines()] == list(range(1, 201))
    assert "went on in epoch" in output
