"""Drift: what is an alarm, how rarely without a reason, and what counts as one witness."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from weathervane import drift, variant
from weathervane.drift import OF_MODEL, WATCHED, Bank, Monitor, _classes, compare, judge, most_changed
from weathervane.errors import InputError
from weathervane.listing import Listing, listing
from weathervane.model import Model, Spec, build
from weathervane.monitor import Lately, of_training
from weathervane.params import load
from weathervane.score import score
from weathervane.store import Store

PARAMS = load(Monitor, ROOT / "params/monitor.yaml")


def table(count: int, rng: np.random.Generator, **shift: float) -> pd.DataFrame:
    numbers = [name for name in WATCHED if name != "classes"]
    columns: dict[str, Any] = {name: rng.normal(shift.get(name, 0), 1, count) for name in numbers}
    return pd.DataFrame(columns | {"class": rng.choice(["rain", "shine", "snow"], count), "unseen": True})


@pytest.mark.slow
def test_without_drift_alarms_are_rare() -> None:
    """Of 400 reports on photographs of the same kind, about 5 % raise an alarm by chance, not 5 % of each test (seven
    would make it 30 %); with the size that a difference needs, fewer. benchmarks/drift.py counts real photographs."""
    rng, watch = np.random.default_rng(0), [name for name in WATCHED if name != "classes"]
    pairs = [(table(120, rng), table(60, rng)) for _ in range(400)]
    for smallest, most in ((0.0, 0.09), (PARAMS.smallest, PARAMS.false_alarms)):
        params = PARAMS.model_copy(update={"smallest": smallest, "watch": watch})
        pairs = [pair for pair in pairs if judge(*pair, params).decision == "drift"]  # a size only takes alarms away
        assert len(pairs) <= most * 400


@pytest.mark.parametrize("name", [name for name in WATCHED if name != "classes"])
def test_what_moves_is_named(name: str) -> None:
    """A shift of one and a half standard deviations is an alarm, and only what moved has drifted; images that are
    nearer to the training data than before are none."""
    rng = np.random.default_rng(1)
    judged = judge(table(200, rng), table(50, rng, **{name: 1.5}), PARAMS)
    assert judged.decision == "drift" and [one.name for one in judged.findings if one.drifted] == [name]
    assert judged.figures["drift/alarm"] == 1 and judged.figures[f"drift/{name}"] > 0.4 and f"{name} " in judged.why
    opposite = judge(table(200, rng), table(50, rng, **{name: -1.5}), PARAMS)
    assert opposite.decision == ("no drift" if name == "distance" else "drift")


def test_the_mix_of_classes_is_watched() -> None:
    """A class that is hardly seen any more is an alarm of its own."""
    rng = np.random.default_rng(2)
    after = table(60, rng).assign(**{"class": "rain"})
    judged = judge(table(200, rng), after, PARAMS)
    assert [one.name for one in judged.findings if one.drifted] == ["classes"]
    assert "rain 100%, shine 0%, snow 0%" in judged.why


def test_rare_classes_raise_no_alarm_by_an_approximation() -> None:
    """A class that is seen once among 60 and never among 500 is chance, because p comes from drawn tables and not from
    the formula of chi-square."""
    before = pd.DataFrame({"class": ["rain"] * 500})
    p = _classes(before, pd.DataFrame({"class": ["rain"] * 59 + ["snow"]}))[1]
    assert p == pytest.approx(60 / 560, abs=0.02)


def test_the_difference_of_classes_is_the_total_variation() -> None:
    """From half rain and half shine to rain alone the difference is 0.5: so many photographs would have to change."""
    before = pd.DataFrame({"class": ["rain"] * 20 + ["shine"] * 20})
    assert _classes(before, pd.DataFrame({"class": ["rain"] * 30}))[0] == pytest.approx(0.5)


def test_the_drawn_p_is_the_same_each_time() -> None:
    """A report that is made again gives the same p for the classes, though it is drawn."""
    tables = [pd.DataFrame({"class": ["rain"] * 20 + ["shine"] * shine}) for shine in (20, 35)]
    assert len({_classes(*tables)[1] for _ in range(4)}) == 1


@pytest.mark.filterwarnings("error")
def test_of_many_photographs_nothing_is_warned() -> None:
    """A thousand photographs and more are compared without a word of scipy's on the terminal."""
    rng = np.random.default_rng(4)
    judged = judge(table(353, rng), table(1000, rng, distance=0.5), PARAMS)
    assert [one.name for one in judged.findings if one.drifted] == ["distance"]


def test_small_differences_and_few_photographs_are_no_alarm() -> None:
    """However certain, what differs by less than `smallest` is none; of fewer than `least` nothing is said; what is
    not watched is not found."""
    rng = np.random.default_rng(3)
    alone = PARAMS.model_copy(update={"watch": ["brightness"]})
    large = judge(table(20_000, rng), table(20_000, rng, brightness=0.2), alone)
    (brightness,) = large.findings
    assert large.decision == "no drift" and brightness.p < 1e-6 and 0.05 < brightness.difference < PARAMS.smallest
    few = judge(table(200, rng), table(PARAMS.least - 1, rng, brightness=9), PARAMS)
    assert (few.decision, few.findings) == ("too few", []) and f"at least {PARAMS.least} are needed" in few.why
    only = judge(table(200, rng), table(50, rng, brightness=9), PARAMS.model_copy(update={"watch": ["size"]}))
    assert [one.name for one in only.findings] == ["size"] and only.decision == "no drift"


def test_as_many_photographs_as_are_needed_are_enough_and_say_the_same_twice() -> None:
    """Exactly `least` photographs are judged, and judged again they give the same verdict with the same figures."""
    rng = np.random.default_rng(6)
    before, after = table(200, rng), table(PARAMS.least, rng)
    first, second = (judge(before, after, PARAMS) for _ in range(2))
    assert first.decision != "too few" and first == second


def test_what_a_model_has_learnt_from_is_no_measure_of_it() -> None:
    """Confidence, classes and distance are compared with images that the model has not seen; the rest with all."""
    rng = np.random.default_rng(4)
    before, after = table(200, rng), table(80, rng)
    learnt = table(400, rng).assign(unseen=False, confidence=9.0, distance=-9.0, **{"class": "rain"})
    judged = judge(pd.concat([before, learnt]), after, PARAMS)
    assert judged.decision == "no drift" and set(OF_MODEL) < {one.name for one in judged.findings}


def test_traits_are_compared_with_all_of_the_training_data() -> None:
    """Brightness, which does not depend on what a model has learnt, is compared with all training images; the mix of
    classes only with those that the model has not seen."""
    rng = np.random.default_rng(5)
    learnt = table(300, rng, brightness=8).assign(unseen=False)
    before = pd.concat([table(100, rng), learnt])
    found = {one.name: one for one in compare(before, table(60, rng, brightness=8), PARAMS)}
    assert float(found["brightness"].before) > 7 and not found["classes"].drifted


def test_distance_is_to_the_fifth_nearest() -> None:
    """By angle, 0 to 2; of a bank with fewer images, to its last."""
    bank = Bank(np.array([[1, 0], [2, 0], [3, 0], [4, 0], [0, 1], [0, 2]], np.float32))
    found = bank.distances(np.array([[5, 0], [0, 5], [-1, 0]], np.float32))
    assert found == pytest.approx([2**0.5, 2**0.5, 2])
    assert Bank(np.array([[1, 0]], np.float32)).distances(np.array([[7, 0]], np.float32)) == pytest.approx([0])


def test_distances_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few of them are in memory at a time, less than one image's included."""
    rng = np.random.default_rng(3)
    bank, images = Bank(rng.normal(size=(40, 8)).astype(np.float32)), rng.normal(size=(23, 8)).astype(np.float32)
    wanted = bank.distances(images)
    for room in (10, 100, 400):
        monkeypatch.setattr(drift, "DISTANCES", room)
        np.testing.assert_allclose(bank.distances(images), wanted, rtol=1e-5)


@pytest.fixture(scope="module")
def model(store: Store) -> Model:
    torch.manual_seed(0)
    chosen = variant.load(ROOT, "cnn", {"size": 32, "network.width": 4})
    spec = Spec("cnn", "cnn", chosen.network, 32, store.size, store.classes, False)
    return Model(build(spec), spec, torch.device("cpu"))


def test_the_same_photographs_are_no_drift(model: Model, store: Store) -> None:
    """The images of the training data, read as photographs that somebody scores: nothing differs, those that the model
    has learnt from are left out, as it is surer of them, and a copy that was sent twenty times counts once. The
    strangest is told first, with its pixels."""
    trained = of_training(model, store)
    raw = store.folder.parent / "raw"
    lately, unseen = Lately(trained), str(store.manifest["path"][~trained.learnt][0])
    names = [name for name in listing(str(raw)).names if name.endswith(".jpg")]
    for batch in score(model, Listing(raw, names + [unseen] * 20), "test"):
        lately.add(batch)
    after = lately.table
    assert lately.files == len(names) + 20 and 10 <= len(after) <= (~trained.learnt).sum() < len(names)
    judged = judge(trained.table, after, PARAMS.model_copy(update={"least": 10}))
    assert judged.decision == "no drift", judged.why
    distances = [one.distance for one in lately.strangest]
    assert distances == sorted(distances, reverse=True) and len(distances) == 18
    assert lately.strangest[0].pixels.shape == (32, 32, 3) and lately.strangest[0].pixels.base is None


def test_a_store_of_another_size_is_refused(model: Model, store: Store) -> None:
    """Sharpness at 32 pixels is not that at 64: whoever changed image_size is told to retrain first."""
    from dataclasses import replace

    other = Model(model.net, replace(model.spec, decode_size=64), model.device)
    with pytest.raises(InputError, match=r"looks at 64 pixels a side, .* holds 32: image_size"):
        of_training(other, store)


def test_the_classes_that_changed_most_come_first() -> None:
    """Of many classes a line and a panel have room for a few: those whose share differs, whichever way, and those that
    came or went."""
    before, after = pd.Series(["a"] * 5 + ["b"] * 4 + ["c"]), pd.Series(["a"] * 5 + ["b"] + ["d"] * 4)
    assert most_changed(before, after) == ["d", "b", "c", "a"]
