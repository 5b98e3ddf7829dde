"""Scoring: photographs without labels to a table, a row each, by a registered model."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import Timeout

from tasks.answering import answering, named
from tasks.locks import lock
from weathervane.errors import InputError
from weathervane.listing import listing
from weathervane.progress import say
from weathervane.score_table import Origin, ScoreTable, check_out, part_of


@dataclass(frozen=True)
class Scored:
    """What came of it."""

    model: str
    out: str
    images: int
    problems: list[tuple[str, str]]  # path and reason of those without a class
    kept: int  # rows that a killed run had left
    seconds: float

    def __str__(self) -> str:
        speed = f", {(self.images - self.kept) / self.seconds:.0f} a second" if self.images > self.kept else ""
        kept = f" ({self.kept} of them before it was interrupted)" if self.kept > 0 else ""
        return (
            f"{self.images} photographs{kept} by {self.model} to {self.out} in {self.seconds:.1f} s{speed}; "
            f"{len(self.problems)} of them cannot be used"
        )


def score(root: Path, source: str, out: Path, what: str, device: str) -> Scored:
    """Score a folder, an archive or a pattern of names; started again after a kill, only what is missing.

    Raises:
        InputError: nothing to score, no such model, an `out` that cannot be written or that another run writes.
    """
    check_out(out)
    found = listing(source)
    mine = {one.name: os.path.realpath(one) for one in (out, part_of(out))}
    names = [name for name in found.names if mine.get(Path(name).name, "") != os.path.realpath(found.place / name)]
    version = named(root, what)
    with _alone(root, out):
        from weathervane.score import score as batches

        answers = answering(root, version, device)
        source = str(found.place.resolve())
        scores = ScoreTable(out, Origin(source, answers.uri, answers.data, answers.model.spec.classes))
        began, fresh = time.perf_counter(), 0
        for batch in batches(answers.model, replace(found, names=names), "score", scores.seen):
            scores.add(batch.rows)
            fresh += len(batch.looked)
        count, problems = scores.finish(names)
    result = Scored(answers.uri, str(out), count, problems, count - fresh, time.perf_counter() - began)
    say(str(result))
    return result


@contextmanager
def _alone(root: Path, out: Path) -> Iterator[None]:
    """Two runs would write one table."""
    mark = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:16]
    try:
        with lock(root, f"score-{mark}", timeout=0):
            yield
    except Timeout:
        raise InputError(f"--out {out}: another run is writing it: wait for it, or name another file") from None
