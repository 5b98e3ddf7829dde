"""How many wrong labels are found: `python -m benchmarks.suspects` flips 10 % of the photographs' and looks.

A network is trained on the flipped labels for each seed, and once on the labels as they are. Beside the suspects stands
what a model's own word finds: as many images, those that it finds least probable to be what their label says.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.peers import take_in
from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import entry, record
from weathervane import project, variant
from weathervane.fit import fit
from weathervane.model import Model
from weathervane.prepare import Prepare, prepare
from weathervane.progress import say
from weathervane.store import Store
from weathervane.suspects import suspects

SHARE = 0.1


def take_in_and_prepare(archive: Path, root: Path) -> Path:
    """Take the archive in and prepare it at 96 pixels; the prepared folder."""
    take_in(archive, root)
    prepare(Prepare(image_size=96, shard=4096), root)
    return root / project.PREPARED


def flipped(label: np.ndarray, seed: int) -> np.ndarray:
    """The labels with a share of them, chosen evenly, replaced by another class, chosen evenly."""
    rng, classes, out = np.random.default_rng(seed), np.unique(label), label.copy()
    for row in rng.choice(len(label), round(SHARE * len(label)), replace=False):
        out[row] = rng.choice(classes[classes != label[row]])
    return out


def measure(prepared: Path, name: str, seed: int | None, epochs: int | None) -> dict[str, float]:
    """One training and what comes of it; without a seed, on the labels as they are."""
    store = Store(prepared)
    truth = store.manifest["label"].copy()
    if seed is not None:
        store.manifest["label"] = flipped(truth, seed)
    label = store.manifest["label"]
    wrong = label != truth
    with tempfile.TemporaryDirectory() as folder:
        one = variant.load(project.root(), name, {"train.epochs": epochs} if epochs else None)
        fit(name, one, store, Path(folder), device=torch.device("cpu"), seed=seed or 0)
        model = Model.load(Path(folder) / "model")
    started = time.perf_counter()
    table = suspects(model, store)
    seconds = time.perf_counter() - started
    chosen = np.isin(store.manifest["sha256"], table["sha256"])
    everything = np.arange(len(label))
    own = model.probabilities(store.pixels(everything))[everything, np.searchsorted(model.spec.classes, label)]
    unsure = np.isin(everything, np.argsort(own)[: len(table)])
    trained = np.isin(everything, store.part("train", without_fold=0))
    found = {"suspects": float(len(table)), "seconds": seconds}
    if seed is not None:
        found["recall"], found["precision"] = float(chosen[wrong].mean()), float(wrong[chosen].mean())
        found["recall on its training images"] = float(chosen[wrong & trained].mean())
        found["recall of its own word"] = float(unsure[wrong].mean())
        found["recall of its own word on its training images"] = float(unsure[wrong & trained].mean())
    return found


def main(
    photographs: Photographs = DEFAULT,
    seeds: Annotated[int, typer.Option(help="trainings on flipped labels")] = 3,
    epochs: Annotated[int | None, typer.Option(help="the recipe's by default")] = None,
    which: Annotated[str, typer.Option("--variant")] = "cnn",
) -> None:
    """Print each training's figures and record their medians."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = take_in_and_prepare(photographs, Path(folder))
        for seed in [None, *range(seeds)]:
            runs.append(measure(prepared, which, seed, epochs))
            told = "labels as they are" if seed is None else f"seed {seed}"
            say(f"{told}: {', '.join(f'{key} {value:.3g}' for key, value in runs[-1].items())}")
    clean, rest = runs[0], runs[1:]
    units = {"suspects": "images", "seconds": "s"}
    entries = [entry(f"suspects of {which}: {key}", [run[key] for run in rest], units.get(key, "")) for key in rest[0]]
    record([entry(f"suspects of {which}: labels as they are", [clean["suspects"]], "images"), *entries])


if __name__ == "__main__":
    typer.run(main)
