"""How often `monitor` cries wolf, and of how many photographs it sees a wolf: `python -m benchmarks.drift`.

A CNN is trained on the real photographs, and one without the class `sunrise`. Of the photographs that a model has not
learnt from, one half, chosen anew for each draw, stands for those of lately, the other stays with the training data.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image, ImageFilter

from benchmarks.photographs import DEFAULT, Photographs
from benchmarks.results import record, share
from benchmarks.suspects import take_in_and_prepare
from weathervane import project, variant
from weathervane.drift import Bank, Monitor, judge
from weathervane.features import MOST, with_features
from weathervane.fit import fit
from weathervane.model import Model
from weathervane.monitor import of_training
from weathervane.params import load
from weathervane.progress import say, track
from weathervane.store import Store
from weathervane.traits import traits

NEW = "sunrise"
COUNTS = (30, 50, 100)  # photographs of lately
SHARE = 0.3  # of them that are of a new class, in one of the drifts
Change = Callable[[np.ndarray], np.ndarray]


def night(pixels: np.ndarray) -> np.ndarray:
    """A quarter of the light."""
    return (pixels * 0.25).astype(np.uint8)


def blur(pixels: np.ndarray) -> np.ndarray:
    """Out of focus: a Gaussian of 1.5 of the 96 pixels."""
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1.5)))


def only(store: Store, rows: np.ndarray) -> Store:
    """A store of some of its rows."""
    part = Store(store.folder)
    part.manifest = {name: column[rows] for name, column in store.manifest.items()}
    part.pixels = lambda chosen: store.pixels(rows[chosen])  # type: ignore[method-assign, assignment]
    return part


def trained(store: Store, epochs: int) -> Model:
    """A CNN by its own recipe, but for the epochs."""
    with tempfile.TemporaryDirectory() as folder:
        cnn = variant.load(project.root(), "cnn", {"train.epochs": epochs})
        fit("cnn", cnn, store, Path(folder), device=torch.device("cpu"), seed=0)
        return Model.load(Path(folder) / "model")


def lately(model: Model, store: Store, rows: np.ndarray, bank: Bank, change: Change) -> pd.DataFrame:
    """What `monitor` would see of these photographs of a store if they were changed; the index holds `rows`."""
    pixels = np.stack([change(one) for one in store.pixels(rows)])
    parts = [with_features(model, pixels[first : first + MOST]) for first in range(0, len(pixels), MOST)]
    probability, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    table = pd.DataFrame(traits(pixels), index=rows)
    size = np.sqrt(store.manifest["width"][rows] * store.manifest["height"][rows])
    said = {"class": np.array(model.spec.classes)[probability.argmax(1)], "confidence": probability.max(1)}
    return table.assign(**said, size=size, distance=bank.distances(features))


def alarms(
    before: pd.DataFrame, after: pd.DataFrame, params: Monitor, count: int, draws: int, share: float = 1.0
) -> list[bool]:
    """Whether each draw raised an alarm.

    Args:
        before: as of `of_training`; half of its unseen rows are taken out in each draw.
        after: of photographs of lately; of those in `before`, only the ones that were taken out are drawn from.
        params: params/monitor.yaml.
        count: photographs a draw.
        draws: how many.
        share: of the photographs that come from `after`; the rest is what was taken out, unchanged.
    """
    rng, unseen, found = np.random.default_rng(0), before.index[before["unseen"]].to_numpy(), []
    for _ in track(range(draws), f"{count} photographs"):
        out = rng.permutation(unseen)[: len(unseen) // 2]
        ours = after.index.difference(before.index).to_numpy()
        pool = ours if len(ours) else np.intersect1d(out, after.index)
        changed = rng.choice(pool, min(len(pool), round(share * count)), replace=False)
        rest = rng.choice(np.setdiff1d(out, changed), count - len(changed), replace=False)
        drawn = pd.concat([after.loc[changed], before.loc[rest, after.columns]])
        found.append(judge(before.drop(index=out), drawn, params).decision == "drift")
    return found


def main(
    photographs: Photographs = DEFAULT,
    draws: int = 400,
    epochs: int = 20,
) -> None:
    """Train, draw, and record it."""
    params, entries = load(Monitor, project.root() / "params/monitor.yaml"), []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(take_in_and_prepare(photographs, Path(folder)))
        model = trained(store, epochs)
        trained_on = of_training(model, store)
        before, bank = trained_on.table, Bank(trained_on.features[trained_on.learnt])
        unseen = before.index[before["unseen"]].to_numpy()
        kinds = {"nothing changed": before, "night": night, "blur": blur}
        for name, change in kinds.items():
            after = before if change is before else lately(model, store, unseen, bank, change)
            for count in COUNTS:
                found = alarms(before, after.drop(columns=["unseen"], errors="ignore"), params, count, draws)
                entries.append(share(f"monitor: {name}, {count} photographs", found, "of the draws"))
                say(f"{entries[-1].name}: {entries[-1].value}")
        known, rest = np.flatnonzero(store.manifest["label"] != NEW), np.flatnonzero(store.manifest["label"] == NEW)
        part = only(store, known)
        model = trained(part, epochs)
        trained_on = of_training(model, part)
        before, bank = trained_on.table, Bank(trained_on.features[trained_on.learnt])
        after = lately(model, store, rest, bank, lambda pixels: pixels)
        after.index += len(store.manifest["label"])  # none of them is in `before`
        for portion in (1.0, SHARE):
            for count in COUNTS:
                found = alarms(before, after, params, count, draws, portion)
                what = f"monitor: a new class, {portion:.0%} of {count} photographs"
                entries.append(share(what, found, "of the draws"))
                say(f"{entries[-1].name}: {entries[-1].value}")
    record(entries)


if __name__ == "__main__":
    typer.run(main)
