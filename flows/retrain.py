"""The flow `retrain`: from the sources to a decision about the champion."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.elsewhere import decoder, variant_elsewhere
from flows.outcome import VariantsFailed, flow_run, outcome
from flows.runner import Runner, check_runner, servers
from flows.server import OWN
from flows.trainings import Begun, Failed, closed_by_errors, in_turn, reused
from flows.variant import train_and_evaluate
from tasks import approval
from tasks.announced import announce
from tasks.approval import Waiting
from tasks.data import dataset_of, refuse_another
from tasks.data_steps import ingest, prepare, restore
from tasks.dead_runs import end_dead_runs
from tasks.dvc_lock import raw_md5
from tasks.locks import retrain_lock
from tasks.plan import Candidate, Plan, Result, challenger, check_sizes, make_plan, read_variants
from tasks.publish import publish
from tasks.register import Decision, register
from tasks.report import report
from tasks.runs import close_retraining, open_retraining, open_variant
from tasks.tracking_read import check_server, page, uri
from tasks.train import How
from tasks.turns import one_at_a_time, superseded
from tasks.unjudged import UNJUDGED
from weathervane import project
from weathervane.params import Device, Seed
from weathervane.progress import about, say


@flow(name="retrain")
def retrain(
    variants: list[str] = [],  # noqa: B006, as Prefect's form shows a list best
    changes: list[str] = [],  # noqa: B006
    device: Device = "auto",
    seed: Seed = 0,
    data_version: str = "",
    time_limit: Annotated[float, Field(ge=0)] = 0,
    processes: Annotated[int, Field(ge=1)] = 1,
    memory: Annotated[float, Field(ge=0)] = 0,
) -> Any:
    """Take in new images, train what changed, compare, and promote by the gate.

    Args:
        variants: names of files in params/models; an empty list means all but those with `by_default: false`.
        changes: parameters to set, as in `train.epochs=5` (all variants) or `cnn.train.epochs=5` (one).
        device: auto, cpu, cuda, cuda:1, mps.
        seed: of initialisation, order and augmentation.
        data_version: md5 (or its beginning, or a git revision) of a version of the data; sources are then left alone,
            and nothing becomes champion on another version than today's.
        time_limit: minutes that one variant may train, all tries together, 0 for no limit; one that reaches it has
            failed, and the next retraining goes on from its checkpoint.
        processes: that train a variant together, each on a GPU of its own where there are any.
        memory: GB of pixels that may stay on the device, 0 for half of its memory; more are read batch by batch.

    Returns:
        rows: one a variant; decision (which names the run's state) and why; parent: the MLflow run of this retraining.
    """
    return outcome(
        lambda: work(variants, changes, seed, data_version, How(device, time_limit or None, processes, memory or None))
    )


def work(variants: list[str], changes: list[str], seed: int, data_version: str, how: How) -> dict[str, Any]:
    """The flow's steps; see `retrain`."""
    root = project.root()
    dataset = dataset_of(root)
    if asked := approval.waiting(root, dataset):  # first: a variant that was renamed since must not cost the answer
        return approval.ask(root, asked)
    chosen = read_variants(root, variants, changes)
    check_sizes(root, chosen)
    check_server(uri(root))
    check_runner(root)
    project.check_writable(root)
    if why := superseded():
        return {"rows": [], "decision": "skipped", "why": why, "parent": None, "dataset": dataset}
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        stack.enter_context(retrain_lock(root, who=flow_run()))
        refuse_another(root)
        end_dead_runs(root)  # first, or one that was killed would be waited for
        if not os.environ.get(OWN):  # on a server of our own nobody else can be at work
            stack.enter_context(one_at_a_time(dataset_of(root)))  # another one by now, perhaps
        home = restore(root, data_version) if data_version else None
        if not data_version:
            with timed(seconds, "ingest"):
                ingest(root)
        if home is None:
            with timed(seconds, "prepare"):
                prepare(root, decoder(root, servers()))
        if not data_version:
            publish(root)
            announce(root, str(raw_md5(root)))
        plan = make_plan(root, chosen, seed, home)
        if plan.nothing_to_do:
            return unchanged(plan)
        parent = open_retraining(root, plan)
        with closed_by_errors(root, parent), about(dataset=plan.dataset, mlflow_run=parent):
            say(f"retrain: {plan.dataset}, data {plan.data_md5}, {page(uri(root), parent)}, {flow_run()}")
            summary, decision = train_and_decide(root, plan, parent, how, seconds)
    if decision.asks:
        asked = Waiting(plan.dataset, parent, decision.variant, str(decision.version), decision.compared_with)
        return approval.ask(root, asked, decision.asks)
    return summary


def train_and_decide(
    root: Path, plan: Plan, parent: str, how: How, seconds: dict[str, float]
) -> tuple[dict[str, Any], Decision]:
    """Train what has to be, let the best one meet the champion, and close the retraining; see `retrain`."""
    results, failures = train_all(root, plan, parent, how, seconds)
    decision = decide(root, plan, parent, results, seconds)
    rows = [row(result, decision) for result in results]
    rows += [{"variant": name, "why": error} for name, error in failures.items()]
    tags = {"decision": decision.word, "decision_why": decision.why, "best_variant": decision.variant}
    tags |= {"model_version": decision.version} if decision.version else {}
    tags |= {UNJUDGED: decision.unjudged} if decision.unjudged else {}
    metrics = decision.figures | {f"seconds/{step}": spent for step, spent in seconds.items()}
    close_retraining(root, parent, rows, tags, "FAILED" if failures else "FINISHED", metrics)
    summary = {
        "rows": rows,
        "decision": decision.word,
        "why": decision.why,
        "parent": parent,
        "dataset": plan.dataset,
        "synthetic": plan.synthetic,
        "variant": decision.variant,
        "promotable": decision.version if decision.for_a_person or decision.lacks_a_champion else "",
    }
    if failures and not decision.asks:  # what failed is on record all the same
        raise VariantsFailed(failures, summary)
    return summary, decision


def train_all(
    root: Path, plan: Plan, parent: str, how: How, seconds: dict[str, float]
) -> tuple[list[Result], dict[str, str]]:
    """The results of all variants, and why those that have none came to nothing."""
    results, failures = list[Result](), dict[str, str]()

    def begin(place: Runner, candidate: Candidate) -> Begun[Result]:
        run = open_variant(root, plan, candidate, parent)
        given = {"plan": plan, "candidate": candidate, "run": run, "how": how}
        return Begun(run, place.start(train_and_evaluate, variant_elsewhere, root, **given))

    with in_turn(root, plan, begin) as result_of:
        for candidate in plan.candidates:
            if standing := reused(candidate, parent):
                results.append(standing)
                continue
            with timed(seconds, candidate.name, candidate.why) as end:
                result = result_of(candidate)
                if isinstance(result, Failed):
                    end += ["failed"]
                    failures[candidate.name] = result.why
                else:
                    end += [f"test accuracy {result.metrics['test/accuracy']:.3f}", page(uri(root), result.run_id)]
                    results.append(result)
    return results, failures


def decide(root: Path, plan: Plan, parent: str, results: list[Result], seconds: dict[str, float]) -> Decision:
    """The data report, with the labels that the best variant doubts, and what comes of that variant."""
    best = challenger(results) if results else None
    if not plan.older:
        with timed(seconds, "report"):
            found = report(root, parent, best and best.run_id)
            best = best and replace(best, metrics=best.metrics | found)
    with timed(seconds, "register") as end:
        decision = register(root, plan, best) if best else Decision(False, "no variant could be trained", "")
        end += [f"{decision.word}: {decision.why}"]
    return decision


@contextmanager
def timed(seconds: dict[str, float], step: str, why: str = "") -> Iterator[list[str]]:
    """Say when the block begins (and why) and ends, and note how long it took; yields what else to say at its end."""
    since, end = time.perf_counter(), list[str]()
    with about(step=step):
        say(f"{step}: started{f' ({why})' if why else ''}")
        yield end
        seconds[step] = time.perf_counter() - since
        say(", ".join([f"{step}: ended after {seconds[step]:.1f} s", *end]))


def row(result: Result, decision: Decision) -> dict[str, Any]:
    """A line of the closing table."""
    best = result.name == decision.variant
    return {
        "variant": result.name,
        "test_accuracy": result.metrics["test/accuracy"],
        "low": result.metrics["test/accuracy_low"],
        "high": result.metrics["test/accuracy_high"],
        "macro_f1": result.metrics["test/macro_f1"],
        "val_accuracy": result.metrics["val/accuracy"],
        "seconds": result.metrics["train/whole_seconds"],
        "decision": ("champion" if decision.promoted else "challenger" if decision.version else "") if best else "",
        "why": decision.why if best else "",
        "reused": result.reused,
        "run_id": result.run_id,
    }


def unchanged(plan: Plan) -> dict[str, Any]:
    """Nothing to do: said, and returned as a first-class outcome."""
    runs = {candidate.name: candidate.run.run_id for candidate in plan.candidates if candidate.run}
    told = [f"{name} unchanged since run {run}" for name, run in runs.items()]
    why = "; ".join([*told, plan.waiting] if plan.waiting else told)
    say(f"nothing to do: {why}")
    return {
        "rows": [],
        "decision": "unchanged",
        "why": why,
        "parent": None,
        "dataset": plan.dataset,
        "synthetic": plan.synthetic,
    }
