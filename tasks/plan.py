"""What a retraining would do, and why: which variants are trained, which stand as they are.

Answered without Prefect, torch or MLflow's client.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.changes import what_changed
from tasks.data import PREPARE
from tasks.dvc_lock import md5_of_prepared, prepared_md5, raw_md5
from tasks.tags import CLEANED, KINDS, WAITING
from tasks.tracking_read import Run, runs, uri
from tasks.unjudged import stands
from weathervane import project, variant
from weathervane.errors import InputError
from weathervane.fingerprint import digest, ingredients
from weathervane.folds import Crossing, check_folds, grouped
from weathervane.ledger import SYNTHETIC, Ledger
from weathervane.params import load, value
from weathervane.prepare import Prepare
from weathervane.variant import Variant


@dataclass(frozen=True)
class Candidate:
    """A selected variant: to be trained, or with the run that trained it already."""

    name: str
    variant: Variant
    fingerprint: str
    ingredients: dict[str, str]
    why: str
    run: Run | None = None  # finished, with equal fingerprint
    settled: bool = False  # and a decision that stands was made by its retraining, or by one that reused it
    seconds: float | None = None  # what training it took last time, scaled to the epochs asked for


@dataclass(frozen=True)
class Plan:
    """What is to be done on one version of one dataset."""

    dataset: str
    data_md5: str  # of data/raw: the version that people and MLflow speak of
    prepared: Path  # the prepared dataset's folder
    seed: int
    candidates: list[Candidate]
    older: bool  # another version of the data than today's: nothing trained on it becomes champion by itself
    synthetic: bool = False  # rendered skies are among the images
    crossing: Crossing | None = None  # not a retraining, but this cross-validation
    images: dict[str, int] = field(default_factory=dict)  # how many there are, in all, by split and by class
    waiting: str = ""  # which version waits for a person's word, as a sentence

    @property
    def kind(self) -> str:
        """Tag of the parent run; its children's is `KINDS[kind]`."""
        return "crossval" if self.crossing else "retraining"

    @property
    def nothing_to_do(self) -> bool:
        """Every variant stands, and its retraining was decided."""
        return all(candidate.settled for candidate in self.candidates)

    @property
    def fingerprint(self) -> str:
        """Equal for retrainings of which one may go on with what the other left."""
        return digest({"data": self.data_md5, **{one.name: one.fingerprint for one in self.candidates}})

    @property
    def to_train(self) -> list[Candidate]:
        """The variants that have no finished run."""
        return [candidate for candidate in self.candidates if candidate.run is None]


@dataclass(frozen=True)
class Result:
    """A variant's standing in this retraining: its run and that run's metrics (`val/accuracy`, ...)."""

    name: str
    run_id: str
    metrics: dict[str, float]
    reused: bool  # trained by an earlier retraining, unchanged since


def challenger(results: list[Result]) -> Result:
    """The best variant by validation: only this one is shown to the gate."""
    return max(results, key=lambda result: (result.metrics["val/accuracy"], -result.metrics["val/log_loss"]))


def read_variants(root: Path, names: list[str] | None, changes: list[str]) -> dict[str, Variant]:
    """The selected variants (none: those of `variant.defaults`) with `--set` changes applied; name → parameters.

    `train.epochs=5` holds for every selected variant, `cnn.train.epochs=5` for one.

    Raises:
        InputError: an unknown variant or key, a value out of range, the same variant twice.
    """
    selected = names or variant.defaults(root)
    if not selected:
        raise InputError("params/models/ has no variant that is trained by default: name one with --variants")
    if len(set(selected)) < len(selected):
        raise InputError(f"--variants {' '.join(selected)}: the same variant stands there twice")
    for name in selected:
        if "," in name:
            raise InputError(f"--variants {name}: names stand apart by spaces: --variants {name.replace(',', ' ')}")
        variant.check_name(root, name)
    by_variant: dict[str, dict[str, Any]] = {name: {} for name in selected}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: the form is key=value, as in train.epochs=5 or cnn.train.epochs=5")
        head, _, rest = key.partition(".")
        if head in variant.names(root) and head not in by_variant:
            raise InputError(f"--set {change}: the variant '{head}' is not among those selected")
        if head in by_variant and not rest:
            raise InputError(f"--set {change}: name a parameter, as in {head}.train.epochs=5")
        for name in [head] if head in by_variant else selected:
            by_variant[name][rest if head in by_variant else key] = value(text)
    return {name: variant.load(root, name, changed) for name, changed in by_variant.items()}


def check_sizes(root: Path, variants: dict[str, Variant]) -> None:
    """Before hours of work: what is prepared is large enough.

    Raises:
        InputError: a variant wants larger images.
    """
    prepared = load(Prepare, root / PREPARE).image_size
    for name, one in variants.items():
        if one.size > prepared:
            raise InputError(
                f"{name}: size: {one.size} is more than the {prepared} pixels of prepared images: set image_size: "
                f"{one.size} in {PREPARE}, or make it smaller"
            )


def make_plan(
    root: Path,
    variants: dict[str, Variant],
    seed: int,
    home: Path | None = None,
    crossing: Crossing | None = None,
) -> Plan:
    """Ask MLflow which of the variants have a finished run on this data, with these parameters and this code.

    `home` is the folder of another version of the data than today's (`tasks.data_versions.materialise`). With
    `crossing`, the runs are those of cross-validations, and the plan is one.

    Raises:
        InputError: the data cannot be cross-validated in so many folds.
    """
    ledger = Ledger.read((home or root) / project.RAW)
    dataset, data = ledger.dataset, f"{home.name}.dir" if home else raw_md5(root) or ""
    prepared = md5_of_prepared(root, home) if home else prepared_md5(root)
    needed = {name: ingredients(chosen, prepared, seed) for name, chosen in variants.items()}
    if crossing:
        check_folds(grouped((row.group, row.label, row.split) for row in ledger.rows), crossing.folds)
        needed = {name: found | crossing.told() for name, found in needed.items()}
    past = _past(root, dataset, list(variants), KINDS["crossval" if crossing else "retraining"], home is not None)
    candidates = []
    for name, chosen in variants.items():
        equal, last = past.equal(name, digest(needed[name])), past.last(name)
        candidates.append(
            Candidate(
                name,
                chosen,
                digest(needed[name]),
                needed[name],
                why="unchanged" if equal else what_changed(root, last, name, needed[name], data, ledger),
                run=equal,
                settled=equal is not None and past.settled(equal),
                seconds=_seconds(last, chosen) if last and last.status == "FINISHED" else None,
            )
        )
    place, synthetic = (home or root) / project.PREPARED, any(row.source == SYNTHETIC for row in ledger.rows)
    question = "waiting for approval, unless 'weathervane history' says otherwise"
    waiting = f"{dataset} {', '.join(past.waiting)}: {question}" if past.waiting else ""
    return Plan(
        dataset=dataset,
        data_md5=data,
        prepared=place,
        seed=seed,
        candidates=candidates,
        older=home is not None,
        synthetic=synthetic,
        crossing=crossing,
        images=_counted(ledger),
        waiting=waiting,
    )


def _counted(ledger: Ledger) -> dict[str, int]:
    counts = Counter({"images": len(ledger.rows)})
    for row in ledger.rows:
        counts.update([f"split {row.split}", f"class {row.label}"])
    return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Past:
    """What MLflow has on record of some variants, the newest runs first."""

    runs: list[Run]
    decided: set[str]  # ids of retrainings whose decision stands
    reused: set[str]  # ids of the runs that they had not trained themselves
    waiting: list[str]  # versions that a retraining asked a person about

    def equal(self, name: str, fingerprint: str) -> Run | None:
        """The last finished run of this very training; two names may have equal parameters."""
        told = {"fingerprint": fingerprint, "variant": name}
        return next((run for run in self.runs if _usable(run) and told.items() <= run.tags.items()), None)

    def last(self, name: str) -> Run | None:
        """The variant's last finished run, or else the last one."""
        of_name = [run for run in self.runs if run.tags["variant"] == name]
        return next((run for run in of_name if run.status == "FINISHED"), next(iter(of_name), None))

    def settled(self, run: Run) -> bool:
        """A retraining that had this run has come to a decision that stands."""
        return run.tags.get("mlflow.parentRunId", "") in self.decided or run.run_id in self.reused


def _past(root: Path, dataset: str, variants: list[str], kind: str, older: bool) -> Past:
    address = uri(root)
    earlier = [run for run in runs(address, dataset, "variant", variants) if run.tags.get("kind") == kind]
    retrainings = runs(address, dataset, "kind", ["retraining"]) if any(map(_usable, earlier)) else []
    closed = [run for run in retrainings if run.status == "FINISHED" and "decision" in run.tags]
    decided = [run for run in closed if stands(root, run.tags, older=older)]
    return Past(
        runs=earlier,
        decided={run.run_id for run in decided},
        reused={run_id for run in decided for run_id in run.tags.get("reused_runs", "").split()},
        waiting=sorted({run.tags["model_version"] for run in closed if run.tags["decision"] == WAITING}, key=int),
    )


def _usable(run: Run) -> bool:
    return run.status == "FINISHED" and CLEANED not in run.tags


def finished_crossval(root: Path, plan: Plan) -> Run | None:
    """The cross-validation of all that this one would be of, if it came to its end."""
    found = runs(uri(root), plan.dataset, "fingerprint", [plan.fingerprint])
    whole = (run for run in found if run.tags["kind"] == plan.kind and run.status == "FINISHED")
    return next((run for run in whole if CLEANED not in run.tags), None)


def _seconds(before: Run, chosen: Variant) -> float | None:
    epochs = json.loads(before.tags.get("ingredient.params", "{}")).get("train", {}).get("epochs")
    seconds = before.metrics.get("train/seconds")
    return seconds * chosen.train.epochs / epochs if seconds and epochs else None
