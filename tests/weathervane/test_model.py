"""A model on disk and in use: what is written, what is refused, and that it still computes the same."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from weathervane.errors import InputError
from weathervane.files import sha256
from weathervane.images import BadImage, decode
from weathervane.model import PROBE, Model, Spec, build, eval_batch_size

CPU = torch.device("cpu")
CLASSES = ["rain", "cloudy", "shine"]  # not in alphabetical order: the model's own order counts


def fresh(flip_test: bool = False, decode_size: int = 48) -> Model:
    network = {"hidden": [16, 16], "dropout": 0.1, "input_size": 8}
    spec = Spec("mine", "dnn", network, 32, decode_size, CLASSES, flip_test, {"dataset": "test"})
    torch.manual_seed(0)
    net = build(spec)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return Model(net, spec, CPU)


def pixels(n: int = 10, size: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def photograph(width: int, height: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    fresh().save(tmp_path / "saved", pixels())
    return tmp_path / "saved"


def test_a_saved_model_comes_back_whole(folder: Path) -> None:
    """Description and logits are what they were, to the last bit; the classes keep their order. What is new in the
    description is the sha256 of the weights."""
    model = Model.load(folder)
    assert model.spec == replace(fresh().spec, weights=sha256(folder / "model.safetensors"))
    assert torch.equal(model.logits(pixels()), fresh().logits(pixels()))
    assert not model.net.training


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    """A notebook's own random numbers are the same with and without a load in between."""
    before = torch.get_rng_state()
    Model.load(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_else_is_written_and_all_may_read_it(tmp_path: Path) -> None:
    """Three files, none of them a pickle, mode 0644: a server under another user can read them."""
    before = os.umask(0o022)
    try:
        fresh().save(tmp_path / "deep/saved", pixels())
    finally:
        os.umask(before)
    files = sorted((tmp_path / "deep/saved").iterdir())
    assert [file.name for file in files] == ["model.json", "model.safetensors", "probe.safetensors"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o644}


def edit(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        (folder / "model.json").write_text(json.dumps(content | changes), encoding="utf-8")

    return damage


def cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no description": lambda folder: (folder / "model.json").unlink(),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "empty weights": cut("model.safetensors", 0),
    "cut weights": cut("model.safetensors", 5000),
    "cut description": cut("model.json", 40),
    "a description of another kind": lambda folder: (folder / "model.json").write_text("[1]", encoding="utf-8"),
    "bytes": lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe\x00"),
    "a key too many": edit(wombats=1),
    "other code's format": edit(format=2),
    "other code's family": edit(family="oracle"),
    "other code's network": edit(network={"wombats": 1}),
    "a class too many": edit(classes=[*CLASSES, "snow"]),
    "no classes": edit(classes=None),
    "no temperature above 0": edit(temperature=0),
    "a temperature that is no number": edit(temperature=float("nan")),
    "a temperature in words": edit(temperature="warm"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_model_is_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    """One line names the folder; a traceback or a network with fresh weights never comes out."""
    damage(folder)
    with pytest.raises(InputError) as caught:
        Model.load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """So is one that is not there."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=f"^{folder}: not a usable model"):
            Model.load(folder)


def test_a_half_written_folder_does_not_load(folder: Path) -> None:
    """A save over an older model that breaks off leaves nothing that would load as either."""
    with pytest.raises(RuntimeError):
        fresh().save(folder, pixels()[..., :2])  # no RGB: the probe's logits cannot be computed
    with pytest.raises(InputError, match=r"model\.json"):
        Model.load(folder)


def test_the_probe_tells_whether_it_still_computes_the_same(folder: Path) -> None:
    """0 right after saving; more once a weight has changed; infinite if it computes no numbers at all."""
    assert fresh().probe_error(folder) == 0
    model = Model.load(folder)
    assert model.probe_error(folder) == 0
    last = list(model.net.parameters())[-1]
    with torch.no_grad():
        last[0] += 0.5
    assert model.probe_error(folder) == pytest.approx(0.5, abs=1e-4)
    with torch.no_grad():
        last[0] = torch.nan
    assert model.probe_error(folder) > 1e30


def test_a_probe_is_eight_images_at_most(tmp_path: Path) -> None:
    """Fewer images make a smaller probe, more do not make a larger one."""
    from safetensors.numpy import load_file

    for n, kept in ((3, 3), (PROBE + 1, PROBE)):
        fresh().save(tmp_path, pixels(n))
        probe = load_file(tmp_path / "probe.safetensors")
        assert np.array_equal(probe["pixels"], pixels(n)[:kept])
        assert probe["logits"].shape == (kept, len(CLASSES))


@pytest.mark.parametrize("keep", [None, 0, 100])
def test_a_damaged_probe_is_refused(folder: Path, keep: int | None) -> None:
    """A probe that is missing or cut off is bad input, not a model that passes."""
    if keep is None:
        (folder / "probe.safetensors").unlink()
    else:
        cut("probe.safetensors", keep)(folder)
    with pytest.raises(InputError, match=f"^{folder}: "):
        Model.load(folder).probe_error(folder)


def test_photographs_are_read_as_they_were_for_training() -> None:
    """classify(bytes) is probabilities(decode(bytes)) for any format and shape; rows are shares that sum to 1."""
    model = fresh()
    photographs = [photograph(200, 120), photograph(64, 90, "PNG"), photograph(50, 50, "BMP")]
    found = model.classify(photographs)
    assert np.array_equal(found, model.probabilities(np.stack([decode(data, 48) for data in photographs])))
    assert (found.shape, found.dtype) == ((3, 3), np.float32)
    assert found.sum(1) == pytest.approx([1, 1, 1]) and found.min() >= 0
    assert model.classify([]).shape == (0, 3)
    with pytest.raises(BadImage):
        model.classify([photographs[0], b"no photograph"])


def test_blocks_and_sizes_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits do not depend on how many images go at once; any resolution is shrunk to the network's; none give none."""
    model = fresh()
    together = model.logits(pixels())
    monkeypatch.setattr("weathervane.model.eval_batch_size", lambda net, size: 3)
    assert torch.allclose(model.logits(pixels()), together, atol=1e-5)
    assert model.logits(pixels(size=100)).shape == (10, 3)
    assert model.logits(pixels(0)).shape == (0, 3)


def test_large_images_go_fewer_at_a_time() -> None:
    """Above 128 x 128 the pixels of a block are bounded, and so is its memory; one image always goes. What counts
    is the size that the network works at."""
    assert [eval_batch_size(nn.Identity(), size) for size in (32, 128, 256, 512, 4096)] == [256, 256, 64, 16, 1]
    enlarging = nn.Identity()
    enlarging.input_size = 512  # type: ignore[assignment]
    assert eval_batch_size(enlarging, 96) == 16


def test_mirror_images_are_scored_alike() -> None:
    """With flip_test an image and its mirror image get the same logits: the mean of both; without, they differ."""
    mirrored = np.ascontiguousarray(pixels(size=32)[:, :, ::-1])
    plain, both = fresh(decode_size=32), fresh(flip_test=True, decode_size=32)
    one, other = plain.logits(pixels(size=32)), plain.logits(mirrored)
    assert (one - other).abs().max() > 1e-3
    assert torch.allclose(both.logits(pixels(size=32)), (one + other) / 2, atol=1e-5)
    assert torch.allclose(both.logits(mirrored), (one + other) / 2, atol=1e-5)


def test_what_is_no_number_is_no_answer() -> None:
    """A network with a weight that is NaN is refused by name, instead of saying the first class for certain."""
    model = fresh()
    next(model.net.parameters()).data.fill_(float("nan"))
    with pytest.raises(InputError, match="no numbers: its weights are damaged"):
        model.probabilities(pixels())


def test_temperature_is_for_probabilities_only(tmp_path: Path) -> None:
    """Logits and the probe stay bare; probabilities are softmax(logits / T), before and after a save."""
    model = fresh()
    model.spec = replace(model.spec, temperature=0.5)
    assert torch.equal(model.logits(pixels()), fresh().logits(pixels()))
    expected = (2 * model.logits(pixels())).softmax(1).numpy()
    assert model.probabilities(pixels()) == pytest.approx(expected, abs=1e-6)
    model.save(tmp_path, pixels())
    loaded = Model.load(tmp_path)
    assert loaded.spec.temperature == 0.5
    assert loaded.probabilities(pixels()) == pytest.approx(expected, abs=1e-6)
    assert fresh().probe_error(tmp_path) == 0


def test_a_model_of_before_there_was_a_temperature_loads(folder: Path) -> None:
    """A model.json without the key gives the probabilities that it always gave."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    del content["temperature"]
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")
    expected = fresh().logits(pixels()).softmax(1).numpy()
    assert Model.load(folder).probabilities(pixels()) == pytest.approx(expected, abs=1e-6)
