"""How much scoring loses beside its slower half: `python -m benchmarks.predict`.

The photographs, a file each, are decoded without a network, put through the network decoded, and scored as
`weathervane predict` does. On a CPU both halves want the same cores: what is left of the sum of both is told, too.
"""

import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import typer

from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import Entry, entry, record
from weathervane import project, variant
from weathervane.listing import listing
from weathervane.parallel import in_order
from weathervane.process import settle

SIZE = 96


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(name: str, folder: Path, rounds: int, device: str) -> list[Entry]:
    """The figures of one variant, with weights as drawn: they do not matter to speed."""
    from weathervane.device import choose
    from weathervane.features import MOST, with_features
    from weathervane.model import Model, Spec, build
    from weathervane.score import look, score

    chosen, where = variant.load(project.root(), name), choose(device)
    classes = ["cloudy", "rain", "shine", "sunrise"]
    spec = Spec(name, chosen.family, chosen.network, chosen.size, SIZE, classes, chosen.flip_test)
    model, files = Model(build(spec), spec, where), listing(str(folder))

    def decode() -> list[np.ndarray]:
        found = in_order(lambda reader: look(reader, SIZE), files.readers(), ahead=2 * MOST)
        return [one.pixels for one in found if one.pixels is not None]

    pixels = np.stack(decode())

    def network() -> None:
        for first in range(0, len(pixels), MOST):
            with_features(model, pixels[first : first + MOST])

    def whole() -> None:
        for batch in score(model, files, name):
            batch.rows  # noqa: B018, as predict writes them

    network()
    whole()
    times = [[seconds(work) for work in (decode, network, whole)] for _ in range(rounds)]
    what = f"{name} on {where.type}"
    return [
        entry(f"predict_efficiency, {what}", [max(d, n) / w for d, n, w in times], "of the slower half alone"),
        entry(f"predict, {what}: of both halves' sum", [(d + n) / w for d, n, w in times], "times"),
        entry(f"predict, {what}", [len(pixels) / w for *_, w in times], "images/s"),
    ]


def main(
    photographs: Photographs = DEFAULT,
    rounds: int = 7,
    device: str = "auto",
) -> None:
    """Measure dnn and cnn, and record it."""
    settle()  # before torch is imported
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(photographs) as archive:
            archive.extractall(folder)
        found = [one for name in ("dnn", "cnn") for one in measure(name, Path(folder), rounds, device)]
    from weathervane.device import choose

    record(found, choose(device).type)


if __name__ == "__main__":
    typer.run(main)
