"""A training that was interrupted goes on: faults 24, 29, 32, 36 and 37."""

import errno
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.drills.kill import result, small
from weathervane import checkpoint, resume
from weathervane.errors import InputError, Interrupted, TrainingError
from weathervane.fit import Outcome, backward, fit, record
from weathervane.model import Spec
from weathervane.models import FAMILIES
from weathervane.ranks import Ranks
from weathervane.store import Store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
NO_MEMORY = torch.OutOfMemoryError("out of memory")


def run(store: Store, folder: Path, name: str = "dnn", **options: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    return fit(name, small(name), store, folder, device=CPU, **options)


class After:
    """`stop`, true from the n-th time on."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(autouse=True)
def written_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a training whose epochs are long beside the writing of a checkpoint."""
    monkeypatch.setattr(resume, "RATE", math.inf)


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What trainings that nobody interrupts come to, by variant."""
    home = tmp_path_factory.mktemp("whole")
    for name in FAMILIES:
        run(store, home / name, name)
    return {name: result(home / name) for name in FAMILIES}


@pytest.mark.fault(29)
def test_killed_at_random_moments_the_weights_are_the_same() -> None:
    """Trainings of cnn, dnn and lstm, killed with SIGKILL up to three times each, in the middle of epochs as well,
    come to the weights and the metrics of trainings that were never killed, to the last bit."""
    command = [sys.executable, "-m", "benchmarks.drills.kill", "--trials", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    found = re.search(r"(\d+) of 3 trainings, killed (\d+) times, came to equal weights", done.stdout)
    assert found, done.stdout + done.stderr
    assert found[1] == "3" and int(found[2]) >= 1  # how many moments come before a training has ended is chance


def test_what_a_gpu_began_goes_on_without_one(store: Store, tmp_path: Path) -> None:
    """A checkpoint whose random numbers are those of another kind of device is gone on with, and the note says so."""
    with pytest.raises(Interrupted):
        run(store, tmp_path / "dnn", stop=After(7))
    found, _ = checkpoint.newest(tmp_path / "dnn/checkpoints")
    assert found is not None
    tensors, content = found
    drawn = {name: torch.zeros(16, dtype=torch.uint8) for name in ("random.generator", "random.cuda")}
    content["machine"]["device"] = "cuda"
    checkpoint.write(tmp_path / "dnn/checkpoints", 100, tensors | drawn, content)
    outcome = run(store, tmp_path / "dnn")
    assert [epoch for epoch, _ in result(tmp_path / "dnn")["record"]] == [1, 2, 3, 4, 5]
    assert "not bit-exact: device cuda → cpu" in outcome.notes[-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_goes_on_from_the_middle_of_an_epoch(
    name: str, store: Store, tmp_path: Path, whole: dict[str, dict[str, Any]]
) -> None:
    """Interrupted at two random steps, the model and every figure of the record are those of one go; what happened is
    noted, and the record has each epoch once."""
    rng = random.Random(name)
    for steps in (rng.randint(1, 12), rng.randint(1, 12)):
        with pytest.raises(Interrupted):
            run(store, tmp_path / name, name, stop=After(steps))
    outcome = run(store, tmp_path / name, name)
    assert result(tmp_path / name) == whole[name]
    assert len(outcome.notes) == 2 and all("bit-exact" in note for note in outcome.notes)
    assert [epoch for epoch, _ in result(tmp_path / name)["record"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("family", ["dnn", "cnn"])
def test_interrupted_after_an_epochs_last_step_nothing_of_its_record_is_lost(
    family: str, store: Store, tmp_path: Path
) -> None:
    """The gradients of a step that is not taken again go along: the record of how strongly the loss pulls on each layer
    is that of one go."""
    with pytest.raises(Interrupted):
        run(store, tmp_path / "cut", family, stop=After(5))
    found, _ = checkpoint.newest(tmp_path / "cut/checkpoints")
    assert found is not None and len(found[0]["losses"]) == len(found[0]["draws.order"]) == 6
    run(store, tmp_path / "cut", family)
    run(store, tmp_path / "whole", family)
    layers = [
        [json.loads(line)["layers"] for line in (tmp_path / name / "gradients.jsonl").read_text().splitlines()]
        for name in ("cut", "whole")
    ]
    assert layers[0] == layers[1] and all(layers[0])


def test_the_time_limit_counts_all_tries(store: Store, tmp_path: Path, whole: dict[str, dict[str, Any]]) -> None:
    """At its limit a training ends with an error and a checkpoint: after one step, if earlier tries used it up. With a
    higher limit it goes on, to the weights of a training without any."""
    for steps in (1, 2):
        told = (
            r"the time limit of 1e-06 minutes is reached in epoch 1 of 5; the checkpoint is written: raise --time-limit"
        )
        with pytest.raises(TrainingError, match=told):
            run(store, tmp_path / "dnn", limit=6e-5)
        assert max(int(path.stem) for path in (tmp_path / "dnn/checkpoints").glob("*.safetensors")) == steps
    assert run(store, tmp_path / "dnn", limit=600).seconds < 600
    assert result(tmp_path / "dnn") == whole["dnn"]


def test_a_line_that_no_checkpoint_has_is_written_once(
    store: Store, tmp_path: Path, whole: dict[str, dict[str, Any]]
) -> None:
    """Killed between an epoch's line in metrics.jsonl and its checkpoint, or with half a line written, the record comes
    out whole, and a reader who has the file open reads on."""
    with pytest.raises(Interrupted):
        run(store, tmp_path / "dnn", stop=After(7))
    path = tmp_path / "dnn/metrics.jsonl"
    before = path.read_text()
    path.write_text(before + before.splitlines()[-1] + '\n{"epo')
    with open(path) as reader:
        run(store, tmp_path / "dnn")
        assert [json.loads(line)["epoch"] for line in reader] == [1, 2, 3, 4, 5]
    assert result(tmp_path / "dnn") == whole["dnn"]


@pytest.mark.fault(31)
def test_a_damaged_checkpoint_costs_an_epoch_and_no_more(
    store: Store, tmp_path: Path, whole: dict[str, dict[str, Any]]
) -> None:
    """With the newest checkpoint damaged the one before is used, which is told, and the result is the same."""
    with pytest.raises(Interrupted):
        run(store, tmp_path / "dnn", stop=After(20))
    newest = max((tmp_path / "dnn/checkpoints").glob("*.safetensors"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    outcome = run(store, tmp_path / "dnn")
    assert f"checkpoint {newest.name} is damaged" in outcome.notes[0]
    assert result(tmp_path / "dnn") == whole["dnn"]


@pytest.mark.fault(31)
def test_where_all_checkpoints_are_damaged_that_is_told(
    store: Store, tmp_path: Path, whole: dict[str, dict[str, Any]]
) -> None:
    """Training begins anew, the notes say which files were damaged, and the result is the same."""
    with pytest.raises(Interrupted):
        run(store, tmp_path / "dnn", stop=After(20))
    damaged = sorted((tmp_path / "dnn/checkpoints").glob("*.safetensors"), reverse=True)
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-1])
    outcome = run(store, tmp_path / "dnn")
    assert [note.split(" is damaged")[0] for note in outcome.notes] == [f"checkpoint {path.name}" for path in damaged]
    assert result(tmp_path / "dnn") == whole["dnn"]


def test_another_trainings_checkpoint_is_not_used(store: Store, tmp_path: Path) -> None:
    """A folder in which another seed was trained starts anew, and comes to what that seed always comes to."""
    run(store, tmp_path / "a", seed=1)
    with pytest.raises(Interrupted):
        run(store, tmp_path / "b", seed=0, stop=After(7))
    assert run(store, tmp_path / "b", seed=1).notes == []
    assert result(tmp_path / "b") == result(tmp_path / "a")


@pytest.mark.fault(37)
def test_other_threads_are_told(store: Store, tmp_path: Path) -> None:
    """Gone on with another number of threads, the training says that it is not bit-exact, and why."""
    with pytest.raises(Interrupted):
        run(store, tmp_path / "dnn", stop=After(7))
    torch.set_num_threads(2)
    try:
        (note,) = run(store, tmp_path / "dnn").notes
    finally:
        torch.set_num_threads(1)
    assert "not bit-exact: threads 1 → 2" in note


@pytest.mark.parametrize(("rate", "wanted"), [(math.inf, [1]), (1.0, [])])
def test_short_epochs_share_a_checkpoint(
    rate: float, wanted: list[int], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints take a twentieth of the time at most: epochs shorter than the writing do not have one each, and the
    first, whose cost is not known yet, waits as long as its size says."""
    written: list[int] = []
    real = resume.Checkpoints.save

    def slow(self: resume.Checkpoints, state: Any) -> None:
        real(self, state)
        self._cost = 3600.0
        written.append(state.epoch)

    monkeypatch.setattr(resume, "RATE", rate)
    monkeypatch.setattr(resume.Checkpoints, "save", slow)
    run(store, tmp_path / "dnn")
    assert written == wanted


def test_long_epochs_wait_for_a_checkpoint_by_its_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within an epoch one comes after a minute, and later where a minute is not twenty times what writing takes."""
    saved = resume.Checkpoints(tmp_path, "")
    for cost, seconds in ((0.0, resume.LONG), (1.0, resume.LONG), (30.0, 600.0)):
        saved._cost, saved._last = cost, 1000.0
        for now, due in ((seconds - 0.1, False), (seconds + 0.1, True)):
            with monkeypatch.context() as patch:
                patch.setattr(time, "perf_counter", lambda now=now: 1000.0 + now)
                assert saved.due() is due, (cost, now)


def test_a_full_disk_in_the_record_of_an_epoch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As bad input, with what is needed and where, not as a training that failed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"metrics\.jsonl: .*at least \d+ bytes are needed"):
        record(tmp_path / "metrics.jsonl", 0, metrics={"train_loss": 1.0})


def with_room(room: int, monkeypatch: pytest.MonkeyPatch, error: Exception = NO_MEMORY) -> None:
    """Networks are built as ever, and a training batch of more than `room` images does not fit in."""
    from weathervane import state

    real = state.build

    def check(net: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        if net.training and len(arguments[0]) > room:
            raise error

    def build(spec: Any) -> torch.nn.Module:
        net = real(spec)
        net.register_forward_pre_hook(check)
        return net

    monkeypatch.setattr(state, "build", build)


@pytest.mark.fault(24)
def test_out_of_memory_halves_what_goes_through_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of 8 on a device that holds 3 images: trained in parts of 2, which the outcome says, to the losses of the
    whole batch but for rounding (a network without batch statistics)."""
    run(store, tmp_path / "a", "lstm")
    with_room(3, monkeypatch, RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"))  # MPS has no other
    outcome = run(store, tmp_path / "b", "lstm")
    assert outcome.micro_batch == 2
    assert outcome.notes == [f"out of memory: {n} images at a time from step 1 on" for n in (4, 2)]
    losses = [[line[1]["train_loss"] for line in result(tmp_path / one)["record"]] for one in ("a", "b")]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.05)
    monkeypatch.undo()
    with_room(1, monkeypatch)
    with pytest.raises(TrainingError, match="out of memory with 2 images at a time: lower size or the network"):
        run(store, tmp_path / "c", "lstm")


def test_what_found_no_memory_is_gone_before_the_next_try(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory in the backward pass: the halves begin with nothing left of what the whole batch had kept."""
    from weathervane.state import begin

    one = small("cnn")
    spec = Spec("cnn", one.family, one.network, one.size, store.size, store.classes, one.flip_test)
    state = begin(spec, one.train, 16, CPU, 0, Ranks())
    images, targets = torch.rand(16, 3, one.size, one.size), torch.eye(len(store.classes))[torch.zeros(16, dtype=int)]
    kept, left = list[weakref.ref[torch.Tensor]](), list[int]()

    def pack(held: torch.Tensor) -> torch.Tensor:
        held = held.clone()
        kept.append(weakref.ref(held))
        return held

    def look(net: torch.nn.Module, arguments: tuple[torch.Tensor]) -> None:
        left.append(sum(one() is not None for one in kept))

    def fail(net: torch.nn.Module, arguments: tuple[torch.Tensor], out: torch.Tensor) -> None:
        if len(out) == 16:
            out.register_hook(lambda gradient: (_ for _ in ()).throw(NO_MEMORY))

    state.net.register_forward_pre_hook(look)
    state.net.register_forward_hook(fail)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held):
        backward(state, images, targets, 0.0)
    assert state.micro_batch == 8 and len(kept) > 20 and left[:2] == [0, 0]


@pytest.mark.fault(36, drilled=20)
def test_a_loss_that_explodes_keeps_the_last_good_checkpoint(
    store: Store, tmp_path: Path, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names epoch, step and an image of the batch; the checkpoint before it loads."""
    from weathervane import fit as module

    real, calls = module.backward, [0]

    def poisoned(*arguments: Any) -> torch.Tensor:
        calls[0] += 1
        return real(*arguments) * (1e9 if calls[0] == 10 + again else 1)

    monkeypatch.setattr(module, "backward", poisoned)
    with pytest.raises(TrainingError, match=r"epoch (\d), step (\d) of \d \(its batch: \w+/\w+\.jpg and 7 others\)"):
        run(store, tmp_path / "dnn")
    monkeypatch.undo()
    assert "bit-exact" in run(store, tmp_path / "dnn").notes[0]


@pytest.mark.fault(32, trials=2, drilled=8)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_leave_it_saves_and_leaves(number: signal.Signals, store: Store, tmp_path: Path) -> None:
    """10 s after SIGTERM or SIGINT at the latest the process is gone with status 3 and a checkpoint; started again, it
    goes on from there."""
    content = small("dnn").model_dump(mode="json")
    content["train"]["epochs"] = 400
    job = {"name": "dnn", "variant": content, "data": str(store.folder), "device": "cpu"}
    (tmp_path / "job.json").write_text(json.dumps(job | {"seed": 0, "fold": 0, "threads": 1}))
    command = [sys.executable, "-m", "weathervane.train", str(tmp_path)]
    for seen in (1, 8):
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        record, deadline = tmp_path / "metrics.jsonl", time.monotonic() + 60
        while not record.exists() or len(record.read_text().splitlines()) < seen:
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(child.pid, number)
        began = time.monotonic()
        out, err = child.communicate(timeout=30)
        assert child.returncode == 3 and time.monotonic() - began < 10
        assert "the checkpoint is written" in err and "Traceback" not in err
    assert "went on in epoch" in out
    assert not (tmp_path / "outcome.json").exists()
    assert json.loads((tmp_path / "error.json").read_text(encoding="utf-8"))["status"] == 3


@pytest.mark.fault(24)
@pytest.mark.parametrize(("batch", "parts"), [(31, [16, 8, 4, 3]), (20, [10, 5, 3, 2]), (5, [3]), (3, [])])
def test_halves_of_any_batch_leave_normalisation_two_images(
    batch: int, parts: list[int], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the device, no part of a batch is a single image, as few as can be are tried, and the error says
    how many they were."""
    smallest = parts[-1] if parts else batch
    variant = small("dnn")
    variant = variant.model_copy(update={"train": variant.train.model_copy(update={"batch": batch})})
    with_room(smallest, monkeypatch)
    outcome = fit("dnn", variant, store, tmp_path, device=CPU)
    assert outcome.micro_batch == smallest
    assert outcome.notes == [f"out of memory: {n} images at a time from step 1 on" for n in parts]
    with_room(smallest - 1, monkeypatch)
    (tmp_path / "again").mkdir()
    with pytest.raises(TrainingError, match=f"out of memory with {smallest} images at a time"):
        fit("dnn", variant, store, tmp_path / "again", device=CPU)
