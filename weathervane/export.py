"""A model as an ONNX file that needs none of this code: from uint8 pixels to tempered probabilities.

Legend: N = images, S = the size that photographs are decoded at, K = classes.
"""

import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weathervane.errors import InputError, in_brief
from weathervane.files import replacing
from weathervane.model import Model, logits

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-3  # of a probability: a pixel that is rounded the other way is allowed, another network is not
LATENCY_BATCHES, ROUNDS = (1, 32), 15  # images at once, and how often each is timed
PIXELS, PROBABILITIES = "pixels", "probabilities"


@dataclass(frozen=True)
class Parity:
    """What the file gives beside what the model gives.

    Attributes:
        images: how many were compared.
        difference: the largest of a probability, 0-1.
        latency: images at once → milliseconds of the model and of the file, medians of ROUNDS.
    """

    images: int
    difference: float
    latency: dict[int, tuple[float, float]]


class Whole(nn.Module):
    """What `Model.probabilities` computes, as one network: uint8 [N, S, S, 3] to float32 [N, K]."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net, self.spec = model.net, model.spec

    def forward(self, pixels: Tensor) -> Tensor:
        """Shrunk as `resident` does, which rounds to whole grey levels."""
        images = pixels.permute(0, 3, 1, 2).float()
        if self.spec.size != self.spec.decode_size:
            images = F.interpolate(images, (self.spec.size,) * 2, mode="bilinear", antialias=True).round()
        return (logits(self.net, images, self.spec.flip_test) / self.spec.temperature).softmax(1)


def to_onnx(model: Model, pixels: np.ndarray, about: dict[str, str], out: Path) -> Parity:
    """Write `out`, once the file has given what the model gives.

    Args:
        model: on the CPU.
        pixels: uint8 [N, S, S, 3] of images to compare on.
        about: kept in the file's metadata, beside `classes` (a JSON list), `decode_size` and `variant`.

    Raises:
        InputError: the packages are missing, the network cannot be expressed, or it gives something else. Nothing is
            written.
    """
    run_time = _runtime()
    content = _exported(model, pixels, about)
    session = _session(run_time, content)
    ours = model.probabilities(pixels)
    theirs = np.concatenate([_run(session, pixels[first : first + 64]) for first in range(0, len(pixels), 64)])
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"{out}: not written: its probabilities differ from the model's by up to {difference:.2g}, {TOLERANCE} is "
            "allowed"
        )
    found = Parity(len(pixels), difference, _latency(model, session, pixels))
    with replacing(out, "wb", len(content)) as file:
        file.write(content)
    return found


def _exported(model: Model, pixels: np.ndarray, about: dict[str, str]) -> bytes:
    images = torch.export.Dim("images", min=1)
    # Two images: what is traced with one would be taken for a constant.
    example = torch.from_numpy(np.ascontiguousarray(np.concatenate([pixels, pixels])[:2]))
    try:
        with _quiet():
            program = torch.onnx.export(
                Whole(model).eval(),
                (example,),
                dynamo=True,
                input_names=[PIXELS],
                output_names=[PROBABILITIES],
                dynamic_shapes=({0: images},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(f"{model.spec.variant}: not expressible in ONNX: {in_brief(error)}") from None
    known = {"classes": json.dumps(model.spec.classes), "decode_size": str(model.spec.decode_size)}
    program.model.metadata_props.update({"variant": model.spec.variant, **known, **about})
    return program.model_proto.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own workings, in warnings and in the log."""
    told = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [one.level for one in told]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for one in told:
                one.setLevel(logging.ERROR)
            yield
        finally:
            for one, level in zip(told, before, strict=True):
                one.setLevel(level)


def _runtime() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, which torch exports with
    except ImportError as error:
        raise InputError(f"{error.name} is missing: 'make setup' installs the extra 'onnx'") from None
    return onnxruntime


def _session(onnxruntime: Any, content: bytes) -> "InferenceSession":
    """On the CPU, with as many threads as torch has: what is timed side by side has the same means."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: "InferenceSession", pixels: np.ndarray) -> np.ndarray:
    return session.run([PROBABILITIES], {PIXELS: np.ascontiguousarray(pixels)})[0]


def _latency(model: Model, session: "InferenceSession", pixels: np.ndarray) -> dict[int, tuple[float, float]]:
    found = {}
    for count in LATENCY_BATCHES:
        batch = np.resize(pixels, (count, *pixels.shape[1:]))
        both = partial(model.probabilities, batch), partial(_run, session, batch)
        for work in both:
            work()
        times = [[_milliseconds(work) for work in both] for _ in range(ROUNDS)]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        found[count] = ours, theirs
    return found


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
