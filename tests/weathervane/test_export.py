"""Models as ONNX files: what other runtimes make of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT, fresh
from weathervane import variant
from weathervane.errors import InputError
from weathervane.export import to_onnx
from weathervane.model import Model, Spec, build

onnxruntime = pytest.importorskip("onnxruntime")
CLASSES = ["cloudy", "rain", "shine", "sunrise"]


def a_model(name: str, flip: bool = True, **network: object) -> Model:
    """An untrained one that shrinks what it is given, with a temperature."""
    torch.manual_seed(0)
    chosen = variant.load(ROOT, name, {"size": 32} | fresh(name))
    spec = Spec(name, chosen.family, chosen.network | network, 32, 40, CLASSES, flip, temperature=1.7)
    return Model(build(spec), spec, torch.device("cpu"))


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 40, 40, 3), np.uint8)


def check(model: Model, path: Path) -> None:
    found = to_onnx(model, images(8), {"model": "models:/weather/7"}, path)
    assert found.images == 8 and found.difference < 1e-4 and set(found.latency) == {1, 32}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (answer,) = session.run(None, {"pixels": images(count)})
        assert np.allclose(answer, model.probabilities(images(count)), atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == CLASSES
    assert (told["decode_size"], told["model"]) == ("40", "models:/weather/7")


@pytest.mark.slow
@pytest.mark.parametrize("flip", [True, False])
def test_the_file_alone_gives_what_the_model_gives(tmp_path: Path, flip: bool) -> None:
    """From uint8 pixels to tempered probabilities, for any number of images, with the class names in the file."""
    check(a_model("dnn", flip), tmp_path / "model.onnx")


@pytest.mark.drill
@pytest.mark.parametrize("name", variant.names(ROOT))
def test_every_variant_can_be_exported(tmp_path: Path, name: str) -> None:
    """The registry is walked: recurrent networks and pretrained backbones, too."""
    check(a_model(name), tmp_path / "model.onnx")


@pytest.mark.slow
def test_a_file_that_gives_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody serves a file whose answers differ; the one that was there stays."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the one before")
    model = a_model("dnn")
    monkeypatch.setattr(model, "probabilities", lambda pixels: np.full((len(pixels), 4), 0.25, np.float32))
    with pytest.raises(InputError, match="not written: its probabilities differ from the model's by up to"):
        to_onnx(model, images(8), {}, path)
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"] and path.read_bytes() == b"the one before"


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed the project without its extras is told which one is missing."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match="onnxscript is missing: 'make setup' installs the extra 'onnx'"):
        to_onnx(a_model("dnn"), images(2), {}, tmp_path / "model.onnx")
