"""The training loop: what it records, what it keeps, and what it refuses."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.weathervane.test_augment import OFF
from weathervane.average import EMA
from weathervane.batches import batches, begun, together
from weathervane.draws import shuffled
from weathervane.errors import InputError, TrainingError
from weathervane.fit import Outcome, fit, run_epoch
from weathervane.model import Model, Spec
from weathervane.parts import load_fold
from weathervane.ranks import Ranks
from weathervane.schedule import Schedule, one_cycle
from weathervane.state import begin, compiled, optimization
from weathervane.store import Store
from weathervane.variant import Train, Variant

CPU = torch.device("cpu")
AUGMENT = {"crop": (0.7, 1), "ratio": 1.2, "rotate": 5, "flip": True, "brightness": 0.1, "contrast": 0.1}
AUGMENT |= {"saturation": 0.1, "erase": 0, "mixup": 0, "cutmix": 0}
TRAIN = {"epochs": 2, "batch": 16, "optimizer": "adamw", "lr": 1e-3, "warmup": 0.2, "weight_decay": 0.05}
TRAIN |= {"label_smoothing": 0.1, "ema": 0.9}


def small(size: int = 32, **changes: Any) -> Variant:
    network = {"hidden": [64, 32], "activation": "relu", "norm": True, "dropout": 0.1, "input_size": 16}
    content = {"family": "dnn", "size": size, "flip_test": True, "network": network, "augment": AUGMENT}
    return Variant.model_validate(content | {"train": TRAIN | changes})


def run(store: Store, folder: Path, seed: int = 0, **changes: Any) -> Outcome:
    return fit("small", small(**changes), store, folder, device=CPU, seed=seed, about={"dataset": "test"})


def record(folder: Path) -> list[dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@pytest.fixture(scope="module")
def spoilt(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """8 epochs of which the last is not the best: the learning rate only rises, far too high (chance has 4 tries)."""
    for seed in range(4):
        folder = tmp_path_factory.mktemp("spoilt")
        outcome = run(store, folder, seed, epochs=8, optimizer="sgd", lr=2.0, warmup=0.99, ema=0, bfloat16=False)
        if outcome.best_epoch < 8:
            break
    return folder, outcome


def test_one_line_an_epoch(spoilt: tuple[Path, Outcome]) -> None:
    """metrics.jsonl has one line of strict JSON an epoch, in order, with the same keys in each."""
    lines = record(spoilt[0])
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    for line in lines:
        assert set(line) == {"epoch", "time", "metrics"}
        assert set(line["metrics"]) == {"train_loss", "val_loss", "val_accuracy", "lr", "seconds"}
        assert 0 <= line["metrics"]["val_accuracy"] <= 1 and line["metrics"]["seconds"] > 0
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_the_best_epochs_weights_are_kept(spoilt: tuple[Path, Outcome], store: Store) -> None:
    """The saved model scores on the validation part what the best line of metrics.jsonl says, not the last one (in
    float32: what learns in bfloat16 is kept as float32, and may judge an image otherwise)."""
    folder, outcome = spoilt
    lines = record(folder)
    best = max(lines, key=lambda line: (line["metrics"]["val_accuracy"], -line["metrics"]["val_loss"]))
    assert outcome.best_epoch == best["epoch"] < len(lines)
    assert outcome.val_accuracy == best["metrics"]["val_accuracy"]
    model, rows = Model.load(folder / "model"), store.part("train", fold=0)
    labels = store.manifest["label"][rows]
    logits = model.logits(store.pixels(rows))
    assert (np.array(model.spec.classes)[logits.argmax(1)] == labels).mean() == outcome.val_accuracy
    numbers = torch.from_numpy(np.searchsorted(model.spec.classes, labels))
    assert nn.functional.cross_entropy(logits, numbers).item() == pytest.approx(best["metrics"]["val_loss"], rel=1e-5)


def test_the_kept_models_temperature_is_validations(store: Store, tmp_path: Path) -> None:
    """No other temperature gives the validation labels, with Platt's doubt, more likelihood; none is 1 by chance."""
    run(store, tmp_path, epochs=6)
    model, rows = Model.load(tmp_path / "model"), store.part("train", fold=0)
    logits = model.logits(store.pixels(rows))
    labels = torch.from_numpy(np.searchsorted(model.spec.classes, store.manifest["label"][rows]))

    def loss(t: float) -> float:
        doubt = 4 / 3 / (len(labels) + 2)
        return nn.functional.cross_entropy(logits / t, labels, label_smoothing=doubt).item()

    best = model.spec.temperature
    assert best != 1 and min(loss(best * 1.05), loss(best / 1.05), loss(1.0)) >= loss(best) - 1e-6


def test_the_overfitting_gap_is_of_the_kept_weights(spoilt: tuple[Path, Outcome], store: Store) -> None:
    """Accuracy on the training images, not augmented, less that on the validation images."""
    folder, outcome = spoilt
    model, rows = Model.load(folder / "model"), store.part("train", without_fold=0)
    said = np.array(model.spec.classes)[model.logits(store.pixels(rows)).argmax(1)]
    train = (said == store.manifest["label"][rows]).mean()
    assert outcome.overfitting_gap == pytest.approx(train - outcome.val_accuracy)


def test_a_model_says_where_it_comes_from(spoilt: tuple[Path, Outcome], store: Store) -> None:
    """Its variant, classes, sizes and what the caller told about it travel in model.json."""
    spec = Model.load(spoilt[0] / "model").spec
    assert (spec.variant, spec.classes, spec.about) == ("small", store.classes, {"dataset": "test"})
    assert (spec.size, spec.decode_size) == (32, store.size)


def test_training_learns(store: Store, tmp_path: Path) -> None:
    """Twelve epochs on 48 rendered skies bring the training loss down and validation above chance (1 in 4)."""
    outcome = run(store, tmp_path, epochs=12)
    losses = [line["metrics"]["train_loss"] for line in record(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]
    assert outcome.val_accuracy > 0.4


def test_no_global_random_state(store: Store, tmp_path: Path) -> None:
    """A notebook's own random numbers are the same with and without a fit in between."""
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    run(store, tmp_path, epochs=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


@pytest.mark.fault(36)
def test_a_loss_that_is_not_finite_ends_the_training(store: Store, tmp_path: Path) -> None:
    """The error names epoch and step and what to change; no model is left that could pass for a finished one."""
    with pytest.raises(
        TrainingError,
        match=r"loss is (nan|inf) in epoch \d+, step \d+ of 3 \(its batch: .*\.jpg and 15 others\): lower train\.lr",
    ):
        run(store, tmp_path, epochs=3, optimizer="sgd", lr=1e30, ema=0)
    assert not (tmp_path / "model").exists()


@pytest.mark.fault(36)
def test_a_model_spoilt_by_the_last_step_is_not_kept(store: Store, tmp_path: Path) -> None:
    """Finite training losses do not save a network whose validation loss is not a number."""
    with pytest.raises(TrainingError, match="validation loss is nan after epoch 1"):
        run(store, tmp_path, epochs=1, batch=1000, optimizer="sgd", lr=1e38, ema=0)
    assert not (tmp_path / "model").exists()


def test_a_size_above_the_stores_is_refused(store: Store, tmp_path: Path) -> None:
    """The message says which file to change, and to what."""
    with pytest.raises(InputError, match=r"size: 64 .* set image_size: 64 in params/prepare\.yaml"):
        fit("small", small(size=64), store, tmp_path, device=CPU)


def test_a_fold_without_images_is_refused(store: Store, tmp_path: Path) -> None:
    """The message names the fold and the dataset."""
    with pytest.raises(InputError, match=f"{store.folder}: fold 9 leaves 0 images"):
        fit("small", small(), store, tmp_path, device=CPU, fold=9)


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_batch_may_be_larger_than_the_dataset(store: Store, tmp_path: Path, epochs: int) -> None:
    """Then each epoch is one step on all images, also where the schedule's rise comes to exactly one step."""
    run(store, tmp_path, epochs=epochs, batch=1000, warmup=0.2)
    assert [line["epoch"] for line in record(tmp_path)] == list(range(1, epochs + 1))


def test_batches_are_a_new_shuffle_each_epoch() -> None:
    """Equal sizes, no image twice, other images left over each time; one batch of all where `size` is larger."""
    rng = np.random.default_rng(0)
    epochs = [shuffled(10, 4, rng).tolist() for _ in range(3)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4]
        assert len({*epoch[0], *epoch[1]}) == 8
    assert epochs[0] != epochs[1] != epochs[2]
    assert [sorted(batch) for batch in shuffled(3, 4, rng).tolist()] == [[0, 1, 2]]


def test_the_learning_rate_rises_then_falls() -> None:
    """From near zero to the peak after the warm-up and back, in halves of a cosine; no step is without effect."""
    for steps in (1, 2, 5, 10, 1000):
        for warmup in (0.1, 0.2, 0.5, 0.99):
            rates = [one_cycle((step + 0.5) / steps, warmup) for step in range(steps)]
            assert all(0 < rate <= 1 for rate in rates)
            peak = rates.index(max(rates))
            assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert abs(peak / steps - 0.99) < 0.002
    assert one_cycle(0.1, 0.2) == pytest.approx(0.5) == one_cycle(0.6, 0.2)


def test_biases_and_normalisation_do_not_decay() -> None:
    """Weight decay pulls on matrices and filters only; every parameter is in one of the two groups."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    for kind in ("adamw", "sgd"):
        train = Train.model_validate(TRAIN | {"optimizer": kind, "weight_decay": 0.3})
        optimizer, schedule = optimization(net, train, 10)
        decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert [decay[id(p)] for p in net.parameters()] == [0.3, 0, 0, 0, 0.3, 0]
        assert optimizer.param_groups[0]["lr"] == schedule.rate and 0 < schedule.rate < train.lr


def test_the_average_counts_the_first_steps_fully() -> None:
    """ema: 0.9 weighs each step 0.9 of the next, and the weights of steps sum to 1 from the first step on."""
    net = nn.BatchNorm1d(1)
    average, given = EMA(net, 0.9), [1.0, 2.0, 5.0]
    for steps in range(1, 4):
        with torch.no_grad():
            net.weight.fill_(given[steps - 1])
            net.running_mean.fill_(given[steps - 1])
            net.num_batches_tracked.fill_(steps)
        average.update()
        read = average.read(steps)
        wanted = np.average(given[:steps], weights=0.9 ** np.arange(steps)[::-1])
        assert read.weight.item() == pytest.approx(wanted)
        assert read.running_mean.item() == pytest.approx(wanted)
        assert read.num_batches_tracked.item() == steps
        assert net.weight.item() == given[steps - 1]


def test_after_many_steps_the_average_is_torchs() -> None:
    """What torch's exponential average begins with is forgotten after 300 steps: both are equal then."""
    net, generator = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), torch.Generator().manual_seed(0)
    ours = EMA(net, 0.9)
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(300):
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator))
            net(torch.randn(4, 5, generator=generator))
        ours.update()
        theirs.update_parameters(net)
    wanted, read = theirs.module.state_dict(), ours.read(300).state_dict()
    floats = {name: value for name, value in read.items() if value.is_floating_point()}
    assert len(floats) == 6
    assert all(torch.allclose(value, wanted[name], rtol=1e-4, atol=1e-4) for name, value in floats.items())


def test_weights_that_a_network_uses_twice_are_averaged_once() -> None:
    """Tied weights stand twice in a network's state, and are read as what they are."""
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    average = EMA(net, 0.9)
    average.update()
    assert torch.allclose(average.read(1)[1].weight, net[0].weight)


def test_a_rate_on_the_device_stays_where_it_is() -> None:
    """A recorded step reads the rate's own memory: the schedule writes there, also after a checkpoint was loaded."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": torch.zeros(()), "peak": 0.5}], lr=0.5)
    schedule = Schedule(optimizer, 10, 0.2)
    rate = optimizer.param_groups[0]["lr"]
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == pytest.approx(schedule.rate)
    optimizer.load_state_dict(optimizer.state_dict())
    schedule.go_to(5)
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(schedule.rate) != rate.item()


@pytest.mark.parametrize("on", [{}, {"mixup": 0.4}, {"mixup": 0.4, "cutmix": 1.0}])
def test_steps_whose_images_are_made_together_are_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, on: dict[str, float]
) -> None:
    """Six steps at three a time have the images and targets that they have one by one; so has the rest of an epoch of
    which five are done, and of one of which all are done there is none."""
    one = Variant.model_validate(small(batch=8).model_dump() | {"augment": OFF | on})
    train, _ = load_fold(store, one, 0, CPU)
    made = []
    for many in (1, 3):
        monkeypatch.setattr("weathervane.batches.together", lambda *_, many=many: many)
        spec = Spec("small", one.family, one.network, one.size, store.size, store.classes, one.flip_test)
        state = begin(spec, one.train, len(train.labels), CPU, 0, Ranks())
        made.append(list(batches(state, train, one)))
        for done in (5, 6):
            state.losses = [torch.zeros(())] * done
            made[-1] += batches(state, train, one)
    assert len(made[0]) == len(made[1]) == 7 and torch.equal(made[0][5][0], made[0][6][0])
    for alone, beside in zip(*made, strict=True):
        assert all(torch.equal(*pair) for pair in zip(alone, beside, strict=True))


@pytest.mark.parametrize(("batch", "many"), [(8, 42), (32, 10), (1000, 7)])
def test_a_cpu_augments_small_batches_together(store: Store, batch: int, many: int) -> None:
    """As many as 4 MB hold, of the 48 images here where a batch would be larger: 32x32 pixels in float32 are 12 kB."""
    one = Variant.model_validate(small(batch=batch).model_dump())
    train, _ = load_fold(store, one, 0, CPU)
    assert together(one, train, min(batch, len(train.labels))) == many


def test_an_epoch_drawn_ahead_is_the_same(store: Store) -> None:
    """A GPU begins with the next epoch's images while it is at the last steps of one: losses stay what they were."""
    one = Variant.model_validate(small(batch=8).model_dump() | {"augment": OFF | {"mixup": 0.4, "rotate": 10}})
    train, _ = load_fold(store, one, 0, CPU)
    spec = Spec("small", one.family, one.network, one.size, store.size, store.classes, one.flip_test)
    curves = []
    for early in (False, True):
        torch.manual_seed(0)
        state, losses = begin(spec, one.train, len(train.labels), CPU, 0, Ranks()), list[float]()
        for _ in range(2):
            for _ in run_epoch(state, train, one, Ranks()):
                pass
            state.coming = begun(state, train, one) if early else None
            losses += [loss.item() for loss in state.losses]
            state.end_epoch()
        curves.append(losses)
    assert curves[0] == curves[1] and len(set(curves[0])) == 12


@pytest.mark.parametrize(
    ("there", "asked", "precision"),
    [(True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32")],
)
def test_a_network_learns_in_bfloat16_where_the_device_has_it(
    there: bool, asked: bool, precision: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, and not where train.bfloat16 is false; epochs are judged in it, too. What is kept is float32 in any
    case, and judged as such: the outcome's validation accuracy is that of the model."""
    monkeypatch.setattr("weathervane.state.has_bfloat16", lambda kind: there)
    seen = set[tuple[bool, torch.dtype]]()
    monkeypatch.setattr(nn.Linear, "forward", noting(nn.Linear.forward, seen))
    outcome = run(store, tmp_path, bfloat16=asked, epochs=1)
    learnt = torch.bfloat16 if precision == "bfloat16" else torch.float32
    assert outcome.precision == precision
    assert seen == {(True, learnt), (False, learnt), (False, torch.float32)}
    model, rows = Model.load(tmp_path / "model"), store.part("train", fold=0)
    assert {weight.dtype for weight in model.net.parameters()} == {torch.float32}
    said = np.array(model.spec.classes)[model.logits(store.pixels(rows)).argmax(1)]
    assert (said == store.manifest["label"][rows]).mean() == outcome.val_accuracy


def noting(forward: Callable[..., Tensor], seen: set[tuple[bool, torch.dtype]]) -> Callable[..., Tensor]:
    def with_note(self: nn.Module, x: Tensor) -> Tensor:
        out = forward(self, x)
        seen.add((self.training, out.dtype))
        return out

    return with_note


def test_bfloat16_learns_about_the_same(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss curve is that of float32 but for the rounding of eight bits of mantissa; the one is not the other."""
    monkeypatch.setattr("weathervane.state.has_bfloat16", lambda kind: True)
    full, lower = (curve(store, tmp_path / str(on), small(epochs=4, bfloat16=on)) for on in (False, True))
    assert lower == pytest.approx(full, rel=0.02) and lower != full


def plain(**changes: Any) -> Variant:
    """Without normalisation and dropout, which see the parts of a batch, in float32."""
    content = small(bfloat16=False, **changes).model_dump()
    return Variant.model_validate(content | {"network": content["network"] | {"norm": False, "dropout": 0.0}})


def curve(store: Store, folder: Path, one: Variant) -> list[float]:
    folder.mkdir()
    fit("small", one, store, folder, device=CPU)
    return [line["metrics"]["train_loss"] for line in record(folder)]


def test_accumulated_gradients_are_those_of_the_batch(store: Store, tmp_path: Path) -> None:
    """A batch in four parts has the loss curve of the batch in one, within float tolerance."""
    whole, parts = (curve(store, tmp_path / str(n), plain(accumulate=n)) for n in (1, 4))
    assert parts == pytest.approx(whole, rel=1e-4) and len(parts) == 2


def test_parts_of_one_image_are_refused(store: Store, tmp_path: Path) -> None:
    """Normalisation needs two images: the parameter is named."""
    with pytest.raises(InputError, match=r"train.accumulate: 9 parts of 16 images"):
        run(store, tmp_path, accumulate=9)


@pytest.mark.parametrize(("device", "tool"), [("cpu", r"g\+\+"), ("cuda", "gcc")])
def test_what_compiles_needs_a_compiler(device: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, train.compile is refused with what to install: C++ for a CPU, C for a CUDA GPU."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=f"train.compile: no compiler here: install {tool}, or leave it out"):
        compiled(nn.Identity(), torch.device(device))


@pytest.mark.drill
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="install g++ to have it compiled")
def test_a_compiled_network_learns_the_same(store: Store, tmp_path: Path) -> None:
    """With train.compile the loss curve is the eager one within float tolerance, and the model loads as any other."""
    eager, faster = (curve(store, tmp_path / str(on), plain(compile=on)) for on in (False, True))
    assert faster == pytest.approx(eager, rel=1e-4)
    assert Model.load(tmp_path / "True/model").probe_error(tmp_path / "True/model") < 1e-4
