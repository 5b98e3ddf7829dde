"""The flow `crossval`: every image predicted once, by a model that saw none of its near-duplicates."""

import shlex
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.elsewhere import decoder, fold_elsewhere
from flows.outcome import VariantsFailed, flow_run, outcome
from flows.runner import Runner, check_runner, servers
from flows.trainings import Begun, Failed, closed_by_errors, in_turn, reused
from tasks.crossval import close_crossval, pool_folds, record_of, train_fold
from tasks.data import refuse_another
from tasks.data_steps import ingest, prepare
from tasks.dead_runs import end_dead_runs
from tasks.locks import retrain_lock
from tasks.plan import Candidate, Plan, check_sizes, finished_crossval, make_plan, read_variants
from tasks.runs import open_retraining, open_variant
from tasks.turns import tell_dataset
from weathervane import project
from weathervane.folds import Crossing
from weathervane.params import Device, Seed, check
from weathervane.progress import say


@flow(name="crossval")
def crossval(
    variants: list[str] = [],  # noqa: B006, as Prefect's form shows a list best
    changes: list[str] = [],  # noqa: B006
    folds: Annotated[int, Field(ge=2)] = 5,
    share: Annotated[float, Field(gt=0, le=1)] = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
) -> Any:
    """Compare variants on all images of the dataset, train and test; nothing is registered.

    Args:
        variants: names of files in params/models; an empty list means all but those with `by_default: false`.
        changes: parameters to set, as in `train.epochs=5` (all variants) or `cnn.train.epochs=5` (one).
        folds: as many trainings a variant, each without one of them.
        share: of the near-duplicate groups that a model may learn from, 0-1; less than 1 is a learning curve's step.
        seed: of the folds, and of initialisation, order and augmentation.
        device: auto, cpu, cuda, cuda:1, mps.

    Returns:
        record: what `crossval.json` of the parent run holds: rows (one a variant), pairs, failed, run_id and how it was
            made; decision and why, as for `retrain`.
    """
    return outcome(lambda: _summary(work(variants, changes, folds, share, seed, device)))


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    from weathervane.crossval import leader

    return {"decision": "compared", "why": f"{leader(record)}; run {record['run_id']}", "record": record}


def work(variants: list[str], changes: list[str], folds: int, share: float, seed: int, device: str) -> dict[str, Any]:
    """The flow's steps; see `crossval`."""
    root = project.root()
    crossing = check(Crossing, {"folds": folds, "share": share}, "crossval")
    chosen = read_variants(root, variants, changes)
    check_sizes(root, chosen)
    check_runner(root)
    project.check_writable(root)
    with retrain_lock(root, who=flow_run()):
        refuse_another(root)
        end_dead_runs(root)
        ingest(root)
        prepare(root, decoder(root, servers()))
        plan = make_plan(root, chosen, seed, crossing=crossing)
        tell_dataset(plan.dataset)
        if finished := finished_crossval(root, plan):
            say(f"unchanged since run {finished.run_id}")
            return record_of(root, finished.run_id)
        parent = open_retraining(root, plan)
        with closed_by_errors(root, parent):
            return train_and_compare(root, plan, parent, device, command(list(chosen), changes, crossing, seed))


def train_and_compare(root: Path, plan: Plan, parent: str, device: str, command: str) -> dict[str, Any]:
    """Train what has to be, and close the cross-validation; see `crossval`."""
    children, failures = dict[str, str](), dict[str, str]()

    def begin(place: Runner, candidate: Candidate) -> Begun[str]:
        assert plan.crossing is not None
        run = open_variant(root, plan, candidate, parent)
        given = {"plan": plan, "candidate": candidate, "run": run, "device": device}
        numbers = range(plan.crossing.folds)
        folds = [place.start(train_fold, fold_elsewhere, root, **given, fold=number) for number in numbers]
        return Begun(run, lambda: pool_folds(root, plan, candidate, run, [fold() for fold in folds]))

    with in_turn(root, plan, begin) as result_of:
        for candidate in plan.candidates:
            if standing := reused(candidate, parent):
                children[candidate.name] = standing.run_id
                continue
            result = result_of(candidate)
            if isinstance(result, Failed):
                failures[candidate.name] = result.why
            else:
                children[candidate.name] = result
    record = close_crossval(root, plan, parent, children, failures, command)
    if failures:
        raise VariantsFailed(failures, record)
    return record


def command(variants: list[str], changes: list[str], crossing: Crossing, seed: int) -> str:
    """The command that does the same again."""
    words = ["weathervane", "crossval", "--folds", str(crossing.folds), "--seed", str(seed)]
    words += ["--share", f"{crossing.share:g}"] if crossing.share < 1 else []
    words += ["--variants", *variants]
    return shlex.join([*words, "--set", *changes] if changes else words)
