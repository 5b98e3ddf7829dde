"""A registered model in a form for other runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.answering import answering, named
from weathervane import project
from weathervane.errors import InputError
from weathervane.files import writable

if TYPE_CHECKING:
    from weathervane.export import Parity
    from weathervane.model import Model

ENDING = ".onnx"
MOST = 256  # photographs that both are asked


def check_out(out: Path) -> None:
    """Before any work.

    Raises:
        InputError: not a place for the file.
    """
    if out.suffix != ENDING or out.is_dir() or not out.parent.is_dir():
        raise InputError(f"--out {out}: the name of a {ENDING} file in a folder that is there is needed")
    if not writable(out):
        raise InputError(f"--out {out}: the folder {out.parent} cannot be written to: name another file")


def export(root: Path, what: str, to: str, out: Path | None) -> tuple[str, Path, "Parity"]:
    """Write the version that `what` names; its URI, the file, and how the two compare.

    They are compared on random pixels, and on the test part of data/prepared where that has the model's size.

    Raises:
        InputError: another form than onnx; or as of `check_out`, `named`, `answering` and `to_onnx`. Nothing is written
            then.
    """
    if to != "onnx":
        raise InputError(f"--to {to}: there is onnx")
    if out:
        check_out(out)
    version = named(root, what)
    if not out:
        out = Path(f"{version.name}-{version.version}{ENDING}")
        check_out(out)
    from weathervane.export import to_onnx

    answers = answering(root, version, "cpu")
    about = {"model": answers.uri, "data": answers.data}
    return answers.uri, out, to_onnx(answers.model, _pixels(root, answers.model), about, out)


def _pixels(root: Path, model: "Model") -> np.ndarray:
    from weathervane.store import Store

    size = model.spec.decode_size
    noise = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    try:
        store = Store(root / project.PREPARED)
    except InputError:
        return noise
    if store.size != size:
        return noise
    test = store.part("test")
    return np.concatenate([noise, store.pixels(np.random.default_rng(0).permutation(test)[:MOST])])
