"""Promotions that race, are killed, and are watched: in short what `python -m benchmarks.drills.promotion` does."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from benchmarks.drills.promotion import (
    BY_HAND,
    BY_RETRAINING,
    Drill,
    check,
    client,
    kill_person,
    kill_retraining,
    race,
    two_champions,
    watch,
)
from tasks import promotion


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Drill]:
    root = tmp_path_factory.mktemp("drill")
    shutil.copy(fresh_database, root)
    drill = Drill(root)
    yield drill
    drill.close()
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.mark.fault(39)
@pytest.mark.slow
def test_of_two_promotions_at_once_the_better_one_wins(drill: Drill) -> None:
    """Two processes register at the same moment over a weaker champion: whoever comes first, the best is champion in
    the end, and each champion passed its gate against the one it replaced. (200 in the drill.)"""
    assert race(drill, 0) == []


@pytest.mark.fault(40)
@pytest.mark.slow
@pytest.mark.drill
def test_a_killed_rollback_leaves_the_old_champion_or_the_new(drill: Drill) -> None:
    """SIGKILL before or after each write of a move by hand: the alias is old or new, `previous` and the record agree
    with it, and the lock is free."""
    dataset = two_champions(drill)
    places = list(product(BY_HAND, (False, True)))
    assert len(places) == 8
    assert [wrong for place in places for wrong in kill_person(drill, dataset, *place)] == []


@pytest.mark.fault(40)
@pytest.mark.slow
@pytest.mark.parametrize(("point", "after"), [(BY_RETRAINING[0], True), (("set_registered_model_alias", 1), True)])
def test_a_killed_retraining_is_decided_once(drill: Drill, point: tuple[str, int], after: bool) -> None:
    """SIGKILL between the version and its decision, or right after the alias moved: the next retraining finds the one
    version, decides on it or finds it decided, and ends as if nothing had been. (50 kills in the drill.)"""
    assert kill_retraining(drill, point, after) == []


@pytest.mark.fault(41)
@pytest.mark.slow
def test_a_reader_never_sees_a_mixed_model(drill: Drill) -> None:
    """While the champion changes all the time, weights, labels and hash of what `models:/...@champion` gives belong
    together. (10,000 in the drill.)"""
    assert watch(drill, 20) == []


@pytest.mark.slow
def test_the_checker_finds_what_is_wrong(drill: Drill, tmp_path: Path) -> None:
    """A champion without evidence, a promotion that was told and never made, a mixed read and a lost file are each
    found: the checker can fail."""
    dataset, registry = drill.dataset(), client(drill.root)
    drill.run(drill.student(dataset, 2))
    drill.run(drill.student(dataset, 0))
    assert check(drill, dataset) == []
    figures = {"gate/p_better": 0.4, "gate/level": 0.05, "gate/gained": 4.0, "gate/lost": 3.0}
    promotion.move(registry, dataset, "1", promotion.Move("", "", "2", "x", "y", "2", "better", figures))
    registry.delete_model_version_tag(dataset, "2", "weights_sha256")
    with open(drill.root / "log.jsonl", "a") as file:
        for more in ({"promoted": True, "version": "7"}, {"mixed": ["a reader saw a chimera"]}):
            file.write(json.dumps({"op": "x", "dataset": dataset, "type": "ok", **more}) + "\n")
    found = "; ".join(check(drill, dataset))
    for what in ("2 became champion without evidence", "7 was told to be promoted", "chimera", "version 2 lacks"):
        assert what in found
