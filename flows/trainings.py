"""The trainings of a flow, each in its turn: one after another here, or all at work at once on a cluster's machines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from flows.outcome import VariantsFailed
from flows.runner import HERE, Runner, runner
from tasks.plan import Candidate, Plan, Result
from tasks.runs import close_if_open, close_retraining, close_variant
from weathervane.errors import InputError, TrainingError, in_brief, masked
from weathervane.progress import say

T = TypeVar("T")


@dataclass(frozen=True)
class Begun(Generic[T]):
    """A variant's MLflow run, and what waits for its result."""

    run: str
    result: Callable[[], T]


@dataclass(frozen=True)
class Failed:
    """A variant that came to nothing; its run is closed."""

    why: str


@contextmanager
def in_turn(
    root: Path, plan: Plan, begin: Callable[[Runner, Candidate], Begun[T]]
) -> Iterator[Callable[[Candidate], T | Failed]]:
    """Yields a function that trains a candidate and returns its result.

    On a cluster all have begun before, and it waits for that one. An error that leaves the block ends what is still at
    work, as somebody who interrupts does.
    """
    begun: dict[str, Begun[T]] = {}

    def result_of(candidate: Candidate) -> T | Failed:
        one = begun.pop(candidate.name) if candidate.name in begun else begin(place, candidate)
        return _closed_if_failed(root, one)

    try:
        with runner(root, plan.data_md5) if plan.to_train else nullcontext(HERE) as place:
            for candidate in plan.to_train if place.several else ():
                begun[candidate.name] = begin(place, candidate)
            yield result_of
    except BaseException as error:
        for one in begun.values():
            with _as_far_as_possible():
                close_if_open(root, one.run, "KILLED", f"ended with the others: {_told(error)}")
        raise


def _closed_if_failed(root: Path, begun: Begun[T]) -> T | Failed:
    """The others go on without a variant that failed, but not after bad input, nor when somebody interrupts."""
    try:
        return begun.result()
    except BaseException as error:
        with _as_far_as_possible():
            close_variant(root, begun.run, _status(error), _told(error))
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        say(f"failed: {_told(error)}", logging.ERROR)
        return Failed(_told(error))


@contextmanager
def closed_by_errors(root: Path, parent: str) -> Iterator[None]:
    """Within it an error that ends the flow closes its run; where only variants failed, that is closed already."""
    try:
        yield
    except VariantsFailed:
        raise
    except BaseException as error:
        with _as_far_as_possible():
            close_retraining(root, parent, [], {"failure": _told(error)}, _status(error))
        raise


@contextmanager
def _as_far_as_possible() -> Iterator[None]:
    """What fails while a run is closed must not take the place of what it is closed for; the next start ends it."""
    try:
        yield
    except Exception as error:
        say(f"a run could not be closed: {in_brief(error)}", logging.WARNING)


def reused(candidate: Candidate, parent: str) -> Result | None:
    """The result of a variant that nothing has changed for, or that was trained before an interruption."""
    if candidate.run is None:
        return None
    earlier = candidate.run.tags.get("mlflow.parentRunId") != parent
    say(f"{candidate.name}: {'unchanged since' if earlier else 'trained already:'} run {candidate.run.run_id}")
    return Result(candidate.name, candidate.run.run_id, candidate.run.metrics, reused=earlier)


def _status(error: BaseException) -> str:
    """MLflow's word for a run that an error has ended, or somebody who interrupted it."""
    return "FAILED" if isinstance(error, Exception) else "KILLED"


def _told(error: BaseException) -> str:
    """What went wrong, without secrets; an error that nobody foresaw is told with its type."""
    kind = "" if isinstance(error, InputError | TrainingError) else type(error).__name__
    return masked(": ".join(filter(None, (kind, str(error)))))
