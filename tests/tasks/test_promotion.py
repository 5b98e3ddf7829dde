"""The aliases of a registered model and the record of their moves, in a real MLflow store."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from tasks import promotion, tracking
from tasks.promotion import Move
from tests.conftest import Here, copy_project
from weathervane.errors import InputError

GATE = Move("", "", "", "flow run red-fox", "because", "", "better", {"gate/gained": 9.0})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("promotion")
    shutil.copy(fresh_database, root)
    yield root
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def name(root: Path, request: pytest.FixtureRequest) -> str:
    """A registered model of the test's own with versions 1 to 4."""
    client, name = tracking.client(root), request.node.name.replace("_", "-")[:60]
    client.create_registered_model(name)
    (root / "model.json").write_text("{}")
    for _ in range(4):
        run = tracking.start_run(root, tracking.experiment(root, name), "run", {})
        client.log_artifact(run, str(root / "model.json"), "model")
        client.create_model_version(name, f"runs:/{run}/model", run_id=run)
    return name


def moved(root: Path, name: str, *route: str) -> None:
    """The gate lets these versions in, one after the other."""
    client = tracking.client(root)
    for version in route:
        now = promotion.standing(client, name)
        assert promotion.move(client, name, now.champion, replace(GATE, to=version, best=version)) == ""


def told(root: Path, name: str) -> list[str]:
    """The history, in short."""
    entries = promotion.history(promotion.standing(tracking.client(root), name))
    return [one if isinstance(one, str) else f"{one.start or '-'}>{one.to} {one.policy}" for one in entries]


def test_every_move_is_on_record(root: Path, name: str) -> None:
    """When, from, to, by whom, why and on what evidence; `previous` is the champion before."""
    moved(root, name, "1", "3")
    now = promotion.standing(tracking.client(root), name)
    assert (now.champion, now.previous, now.best, now.elsewhere) == ("3", "1", "3", "")
    assert told(root, name) == ["->1 better", "1>3 better"]
    last = now.moves[-1]
    assert (last.by, last.why, last.evidence, last.done) == ("flow run red-fox", "because", {"gate/gained": 9.0}, True)
    assert last.when.startswith("20") and len(last.when) == len("2026-11-25 03:00:00")


def test_a_move_that_was_only_begun_moved_nothing(root: Path, name: str) -> None:
    """Where a kill came before the alias moved, the champion is the old one, the history says that the move was not
    carried out, and the next move goes on from there."""
    client = tracking.client(root)
    moved(root, name, "1")
    promotion._write(client, name, replace(GATE, when="2026-11-25 03:00:00", start="1", to="2", key="move.000002.abc"))
    for _ in range(2):
        now = promotion.standing(client, name)
        assert (now.champion, now.best, now.previous, now.elsewhere, now.moves[-1].done) == ("1", "1", "", "", False)
    assert told(root, name)[-1] == "2026-11-25 03:00:00  version 1 → version 2 was begun and not carried out"
    moved(root, name, "3")
    assert told(root, name)[-1] == "1>3 better"


def test_the_tenth_move_comes_after_the_ninth(root: Path, name: str) -> None:
    """Moves are read in the order in which they were made, also where their numbers have more digits."""
    moved(root, name, *["1", "2"] * 6)
    now = promotion.standing(tracking.client(root), name)
    assert (now.champion, now.elsewhere, len(now.moves)) == ("2", "", 12)
    assert told(root, name) == ["->1 better", *["1>2 better", "2>1 better"] * 5, "1>2 better"]


def test_a_person_promotes_and_rolls_back(root: Path, name: str) -> None:
    """Any version by its number, with a reason; rollback leads to the champion before, and back again."""
    client = tracking.client(root)
    moved(root, name, "1", "2")
    promotion.promote(client, name, "4", "wins on the new site " + "é" * 9000, "anna")
    assert promotion.standing(client, name).champion == "4"
    promotion.rollback(client, name, "it does not", "anna")
    now = promotion.standing(client, name)
    assert (now.champion, now.previous, now.best) == ("2", "4", "2")
    promotion.rollback(client, name, "it does", "anna")
    assert told(root, name) == ["->1 better", "1>2 better", "2>4 promote", "4>2 rollback", "2>4 rollback"]
    assert client.get_model_version(name, "2").tags["by_hand"] == "rollback by anna: it does not"


def test_a_champion_that_is_not_the_best_may_become_it(root: Path, name: str) -> None:
    """`promote` of the champion itself makes it what nothing may be worse than from then on; the second time, where
    that changes nothing, is refused."""
    client = tracking.client(root)
    moved(root, name, "1")
    promotion.move(client, name, "1", replace(GATE, to="2", best="1"))
    promotion.promote(client, name, "2", "the measure has changed", "anna")
    now = promotion.standing(client, name)
    assert (now.champion, now.best, now.previous) == ("2", "2", "1")
    with pytest.raises(InputError, match="is champion already"):
        promotion.promote(client, name, "2", "again", "anna")


def test_a_long_reason_fits_into_a_tag(root: Path, name: str) -> None:
    """No tag is longer than the 5,000 characters that a server's database keeps; SQLite would keep any number."""
    client = tracking.client(root)
    moved(root, name, "1")
    promotion.promote(client, name, "4", "é" * 9000, "anna")
    tags = {**client.get_registered_model(name).tags, **client.get_model_version(name, "4").tags}
    assert max(map(len, tags.values())) <= 5000


@pytest.mark.parametrize(("version", "why"), [("9", "has versions 1, 2, 3, 4"), ("1", "is champion already")])
def test_what_cannot_be_promoted_is_told(root: Path, name: str, version: str, why: str) -> None:
    """An unknown version and the champion itself, in one line; nothing is put on record."""
    moved(root, name, "1")
    with pytest.raises(InputError, match=why):
        promotion.promote(tracking.client(root), name, version, "why not", "anna")
    assert told(root, name) == ["->1 better"]


def test_a_store_that_fails_is_not_a_version_that_is_missing(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever promotes hears of the failure, and an approval is tried again, instead of "no such version" for good."""
    client = tracking.client(root)
    moved(root, name, "1")

    def failing(*_: object) -> None:
        raise MlflowException("timed out")

    with monkeypatch.context() as patched, pytest.raises(MlflowException, match="timed out"):
        patched.setattr(client, "get_model_version", failing)
        promotion.promote(client, name, "2", "why not", "anna")
    promotion.promote(client, name, "2", "why not", "anna")


def test_there_must_be_something_to_roll_back_to(root: Path, name: str) -> None:
    """One champion has no predecessor; no model at all has no champion."""
    client = tracking.client(root)
    moved(root, name, "1")
    with pytest.raises(InputError, match="nothing to roll back to"):
        promotion.rollback(client, name, "", "anna")
    with pytest.raises(InputError, match="no model of that name is registered: run 'weathervane retrain' first"):
        promotion.rollback(client, "nobody", "", "anna")


def test_a_rollback_takes_a_move_in_mlflows_pages_back(root: Path, name: str) -> None:
    """The champion that the record knows comes back, whether the alias was set to another version, an earlier champion
    or to none."""
    client = tracking.client(root)
    moved(root, name, "1", "2")
    for by_hand in ("4", "1", None):
        if by_hand:
            client.set_registered_model_alias(name, "champion", by_hand)
        else:
            client.delete_registered_model_alias(name, "champion")
        promotion.rollback(client, name, "not in MLflow's pages", "anna")
        assert promotion.standing(client, name).champion == "2"


def test_a_version_without_files_is_not_promoted(root: Path, name: str) -> None:
    """Where somebody has cleaned up the artifacts, the run is named and the champion stays."""
    client = tracking.client(root)
    moved(root, name, "1")
    run = client.get_model_version(name, "2").run_id
    Path(client.get_run(run).info.artifact_uri, "model/model.json").unlink()
    with pytest.raises(InputError, match=f"its run {run} no longer holds the model"):
        promotion.promote(client, name, "2", "why not", "anna")
    assert promotion.standing(client, name).champion == "1"


def test_other_artifacts_are_no_model(root: Path, name: str) -> None:
    """A run whose model is gone cannot become champion, even if other artifacts of it are left."""
    client = tracking.client(root)
    moved(root, name, "1")
    run = client.get_model_version(name, "2").run_id
    client.log_text(run, "x", "report.html")
    Path(client.get_run(run).info.artifact_uri, "model/model.json").unlink()
    with pytest.raises(InputError, match="no longer holds the model"):
        promotion.promote(client, name, "2", "why not", "anna")


def test_a_version_without_a_run_is_not_promoted(root: Path, name: str) -> None:
    """A version that was registered without a run is refused, because no retraining could be compared with it."""
    client = tracking.client(root)
    version = client.create_model_version(name, str(root / "somewhere")).version
    with pytest.raises(InputError, match="was registered without a run"):
        promotion.promote(client, name, str(version), "why not", "anna")


def test_an_alias_moved_elsewhere_is_told(root: Path, name: str) -> None:
    """By hand in MLflow's pages: seen at once, and a gap in the history for good; whoever moved it has also decided
    what nothing may be worse than."""
    client = tracking.client(root)
    moved(root, name, "1", "2")
    client.set_registered_model_alias(name, "champion", "4")
    now = promotion.standing(client, name)
    assert now.elsewhere == (
        "version 4 is champion, but the last recorded move led to version 2: the alias was moved elsewhere"
    )
    assert (now.champion, now.best) == ("4", "4")
    assert told(root, name)[-1] == now.elsewhere
    assert now.previous == "2"  # where a rollback leads: the last champion on record
    moved(root, name, "3")
    assert told(root, name)[:2] == ["->1 better", "1>2 better"]
    assert told(root, name)[2].startswith("moved elsewhere before 20") and told(root, name)[2].endswith(
        "version 2 → version 4"
    )
    assert told(root, name)[3:] == ["4>3 better"]


def test_a_first_champion_made_elsewhere_is_in_the_history(root: Path, name: str) -> None:
    """A champion that was made by hand in MLflow's pages, before the first recorded move, is the first entry."""
    client = tracking.client(root)
    client.set_registered_model_alias(name, "champion", "4")
    moved(root, name, "3")
    first, second = told(root, name)
    assert (
        first.startswith("moved elsewhere before 20") and first.endswith("none → version 4") and second == "4>3 better"
    )


def test_an_alias_moved_elsewhere_meanwhile_stops_the_move(root: Path, name: str) -> None:
    """What the gate decided against version 1 moves nothing once another is champion, and leaves no record."""
    client = tracking.client(root)
    moved(root, name, "1")
    client.set_registered_model_alias(name, "champion", "2")
    with pytest.raises(InputError, match="was moved elsewhere meanwhile, from version 1 to version 2: nothing was mov"):
        promotion.move(client, name, "1", replace(GATE, to="3", best="3"))
    now = promotion.standing(client, name)
    assert (now.champion, len(now.moves)) == ("2", 1)


def test_an_alias_removed_meanwhile_stops_the_move(root: Path, name: str) -> None:
    """Whoever takes the alias away in MLflow's pages wants no champion: what was decided before that moves nothing."""
    client = tracking.client(root)
    moved(root, name, "1")
    client.delete_registered_model_alias(name, "champion")
    with pytest.raises(InputError, match="from version 1 to none"):
        promotion.move(client, name, "1", replace(GATE, to="3", best="3"))
    assert promotion.standing(client, name).champion == ""


def test_a_move_that_another_overtakes_is_told(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another host moves the alias right after us, whoever asked for our move hears which version is champion."""
    client = tracking.client(root)
    moved(root, name, "1")
    real = client.set_registered_model_alias

    def overtaken(of: str, alias: str, version: str) -> None:
        real(of, alias, "4" if alias == "champion" else version)

    monkeypatch.setattr(client, "set_registered_model_alias", overtaken)
    with pytest.raises(InputError, match="version 2 was made champion, and moved on elsewhere at once, to version 4"):
        promotion.promote(client, name, "2", "why not", "anna")


def test_the_commands(tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """`promote`, `rollback` and `history`: one line each for what happened and for what cannot be."""
    root = copy_project(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = tracking.client(root)
    name = "weather-synthetic"
    client.create_registered_model(name)
    (tmp_path / "model.json").write_text("{}")
    for _ in range(2):
        run = tracking.start_run(root, tracking.experiment(root, name), "run", {})
        client.log_artifact(run, str(tmp_path / "model.json"), "model")
        client.create_model_version(name, f"runs:/{run}/model", run_id=run)

    def weathervane(*arguments: str) -> tuple[int, str]:
        done = here(root, *arguments)
        return done.returncode, done.stdout + done.stderr

    assert weathervane("promote", "1", "--why", "a start") == (0, f"{name}: champion – → 1\n")
    assert weathervane("promote", f"models:/{name}/2", "--why", "[bold] and better") == (0, f"{name}: champion 1 → 2\n")
    assert weathervane("rollback") == (0, f"{name}: champion 2 → 1\n")
    status, out = weathervane("history")
    assert status == 0 and out.count(" UTC  ") == 3 and "1 → 2  promote, by " in out and "[bold] and better" in out
    assert out.endswith(f"{name}: champion 1, previous 2, best so far 1\nversions: 1, 2\n")
    assert weathervane("promote", "1", "--why", "again")[0] == 2
    assert "a version is a number" in weathervane("promote", "champion", "--why", "x")[1]
    assert "--why: say in a few words why" in weathervane("promote", "2", "--why", " ")[1]
