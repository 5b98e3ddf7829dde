"""What holds on a GPU: it needs one, and skips elsewhere. The library alone is enough."""

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import ROOT
from weathervane import batches, pixels, variant
from weathervane import fit as fitting
from weathervane.cuda_graph import SEEN, GraphRecorder
from weathervane.device import from_side_stream, on_side_stream, side_stream_waits
from weathervane.errors import Interrupted
from weathervane.fit import fit, outputs, run_epoch
from weathervane.model import Model, Spec
from weathervane.parts import load_fold
from weathervane.ranks import Ranks
from weathervane.state import State, begin
from weathervane.store import Store
from weathervane.variant import Variant

GPU = torch.device("cuda")
FAMILIES = ["cnn", "cnn_lstm", "dnn", "lstm", "rnn"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA GPU, which CI has not: CONTRIBUTING.md says when to run it"
    ),
]


def chosen(name: str, **changes: object) -> Variant:
    return variant.load(ROOT, name, {"size": 32, "train.batch": 8, "train.epochs": 8, **changes})


def epochs(
    one: Variant, store: Store, recorded: bool, count: int = 2 * SEEN, memory: float | None = None
) -> tuple[State, list[float]]:
    """The losses of some epochs, and what they led to."""
    torch.manual_seed(0)
    train, val = load_fold(store, one, 0, GPU, memory)
    spec = Spec("test", one.family, one.network, one.size, store.size, store.classes, one.flip_test)
    state, losses = begin(spec, one.train, len(train.labels), GPU, 0, Ranks()), list[Tensor]()
    recorder = state.recorder if recorded else GraphRecorder(False)
    state.recorder = recorder
    for _ in range(count):
        for _ in run_epoch(state, train, one, Ranks()):
            pass
        losses += state.losses
        with state.autocast():
            losses.append(outputs(state.eval_net, val, one.flip_test, recorder).square().mean())
        state.end_epoch()
    return state, [loss.item() for loss in losses]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_recording_computes_what_the_host_would_have_launched(store: Store, name: str) -> None:
    """Recorded or launched step by step, losses and the averaged network's outputs are equal to the last bit."""
    one = chosen(name)
    recorded, launched = (epochs(one, store, on)[1] for on in (True, False))
    assert recorded == launched


def test_so_does_one_of_several_blocks_that_are_judged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equal blocks of a validation the first are launched, a later one is recorded: it reads nothing of theirs."""
    monkeypatch.setattr(fitting, "eval_batch_size", lambda *_: 2)
    recorded, launched = (epochs(chosen("cnn"), store, on)[1] for on in (True, False))
    assert recorded == launched


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_what_is_made_beside_is_waited_for(name: str) -> None:
    """The usual work sees what was made beside it, however long that took, and its memory is not given away before."""
    with on_side_stream(torch.device(name)):
        torch.cuda._sleep(10**8)
        made = torch.ones(1 << 20, device=name)
    doubled = from_side_stream(made) * 2
    torch.cuda._sleep(10**8)
    tripled = made * 3
    del made
    with on_side_stream(torch.device(name)):
        torch.zeros(1 << 20, device=name)
    assert (doubled.sum().item(), tripled.sum().item()) == (2 << 20, 3 << 20)


def test_what_is_made_beside_finds_what_it_caught_up_with() -> None:
    """However long the usual work takes to make it."""
    torch.cuda._sleep(10**8)
    made = torch.ones(1 << 20, device=GPU)
    side_stream_waits(GPU)
    with on_side_stream(GPU):
        doubled = made * 2
    assert from_side_stream(doubled).sum().item() == 2 << 20


@pytest.mark.parametrize("memory", [None, 0.0])
def test_images_made_beside_the_steps_are_those_made_before_them(
    store: Store, monkeypatch: pytest.MonkeyPatch, memory: float | None
) -> None:
    """On a stream of its own or in turn with the steps, in blocks of two steps and drawn ahead: equal losses, bit for
    bit."""
    one = chosen("dnn", **{"augment.mixup": 0.4, "train.batch": 4})
    monkeypatch.setitem(batches.TOGETHER, "cuda", 2 * 4 * 12 * 32**2)
    aside = epochs(one, store, True, memory=memory)[1]
    for module in (batches, pixels):
        monkeypatch.setattr(module, "on_side_stream", lambda device: nullcontext())
    assert aside == epochs(one, store, True, memory=memory)[1]


def test_blended_batches_too(store: Store) -> None:
    """Mixup and CutMix draw on the host, and a recording sees each draw."""
    one = chosen("dnn", **{"augment.mixup": 0.4, "augment.cutmix": 1.0})
    recorded, launched = (epochs(one, store, on)[1] for on in (True, False))
    assert recorded == launched


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_in_an_epoch_waits_for_the_device(store: Store, name: str) -> None:
    """torch raises where the host would wait for the GPU: once all is recorded it never does."""
    one = chosen(name)
    state, _ = epochs(one, store, True)
    train, _ = load_fold(store, one, 0, GPU)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in run_epoch(state, train, one, Ranks()):
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(state.losses) > SEEN


def test_a_recording_that_finds_no_memory_is_done_without() -> None:
    """Out of memory while it is recorded: the work goes on as before, and gives the same."""

    def work(given: Tensor) -> Tensor:
        if torch.cuda.is_current_stream_capturing():
            raise torch.OutOfMemoryError("by hand")
        return given * 2

    recorder = GraphRecorder(True)
    for number in range(2 * SEEN):
        assert recorder.run("twice", work, torch.full((3,), float(number), device=GPU)).tolist() == [2.0 * number] * 3


def test_another_shape_or_kind_is_recorded_anew() -> None:
    """What was recorded of three values is never taken for four, nor for work that is now said to be other work."""
    recorder, factor = GraphRecorder(True), 2
    for count, factor in ((3, 2), (4, 2), (4, 5)):
        for number in range(2 * SEEN):
            given = torch.full((count,), float(number), device=GPU)
            found = recorder.run("times", lambda one, by=factor: one * by, given, like=factor)
            assert found.tolist() == [float(factor * number)] * count


def test_interrupted_it_goes_on(store: Store, tmp_path: Path) -> None:
    """Stopped in the middle of the third epoch and started again, a training ends with all its epochs, and says that
    sums on a GPU have no fixed order."""
    one, asked = chosen("cnn"), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 15

    with pytest.raises(Interrupted, match="epoch 3"):
        fit("cnn", one, store, tmp_path, device=GPU, stop=stop)
    outcome = fit("cnn", one, store, tmp_path, device=GPU)
    assert "a GPU draws ahead" in outcome.notes[-1]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 8


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cpu_answers_what_the_gpu_answered(store: Store, tmp_path: Path, name: str) -> None:
    """A model that was trained on a GPU computes its remembered logits on a CPU, within what a registration allows."""
    fit(name, chosen(name), store, tmp_path, device=GPU)
    model = Model.load(tmp_path / "model")
    assert model.probe_error(tmp_path / "model") < 1e-3
    rows = store.part("train", fold=0)
    there = Model(copy.deepcopy(model.net), model.spec, GPU).probabilities(store.pixels(rows))
    assert abs(there - model.probabilities(store.pixels(rows))).max() < 1e-3


def test_pixels_that_do_not_fit_come_from_disk(store: Store, tmp_path: Path) -> None:
    """With no memory for pixels on the device a training is the same to the last bit, batch by batch from disk."""
    for memory in (0.0, None):
        (tmp_path / str(memory)).mkdir()
        fit("dnn", chosen("dnn"), store, tmp_path / str(memory), device=GPU, memory=memory)
    one, other = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("0.0", "None"))
    assert [line.split('"metrics"')[1].split('"lr"')[0] for line in one] == [
        line.split('"metrics"')[1].split('"lr"')[0] for line in other
    ]
