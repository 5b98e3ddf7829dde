"""Who becomes champion: real models in a real store, whose answers the test chooses (tests/exam.py)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.utils.validation import _validate_logged_model_name

from tasks import gate, promotion, tracking
from tasks.plan import Plan, challenger
from tasks.register import NOT_IN_A_NAME, Decision, register
from tasks.tags import WAITING
from tests.exam import CLASSES, exam, run_of, student
from weathervane import synthetic
from weathervane.gate import SUSPECTED
from weathervane.store import Store, seal

LOADS = """
import base64, json, sys
import mlflow, pandas as pd
from mlflow.exceptions import MlflowException

served = mlflow.pyfunc.load_model(sys.argv[1])
photographs = [base64.b64decode(line) for line in sys.stdin]
rows = served.predict(pd.DataFrame({"image": photographs}))
import weathervane
told = {"rows": rows.to_dict("records"), "code": weathervane.__file__, "errors": []}
for wrong in (["/etc/hostname"], [b"no image"], [photographs[0], b""]):
    try:
        told["errors"].append(str(served.predict(pd.DataFrame({"image": wrong})).to_dict()))
    except MlflowException as error:
        told["errors"].append(f"{error.error_code}: {error}")
print(json.dumps(told))
"""


RULES = {"policy": "better", "alpha": 0.05, "margin": 0.03, "min_images": 50, "slice_margin": 0.5}
RULES |= {"suspected_rise": 0.05, "limits": "{}"}
INGREDIENTS = {"ingredient.params": "{}", "ingredient.code": "c"}
Retrain = Callable[..., Decision]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("register")
    (root / "params").mkdir()
    tracking.client(root)
    yield root
    mlflow.set_tracking_uri(None)  # `register` made the store MLflow's default


@pytest.fixture(autouse=True)
def _rules(root: Path) -> None:
    rules(root)


@pytest.fixture(autouse=True)
def _no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of a comparison's time; one test looks for it."""
    if request.node.name != "test_a_better_one_takes_over":
        monkeypatch.setattr(gate, "_draw", lambda *_: None)


def rules(root: Path, **changes: Any) -> None:
    lines = [f"{key}: {value}\n" for key, value in (RULES | changes).items()]
    (root / "params/register.yaml").write_text("".join(lines))


@pytest.fixture
def sit(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Plan]:
    """An exam for these students, as a retraining on a dataset of the test's own, so that champions do not meet."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60]

    def plan(*wrong: Sequence[int], **more: Any) -> Plan:
        store = exam(tmp_path / f"exam{len(list(tmp_path.iterdir()))}", *wrong, **more)
        return Plan(name, "1" * 32 + ".dir", store.folder, seed=0, candidates=[], older=False)

    return plan


@pytest.fixture
def retrain(root: Path, tmp_path: Path) -> Retrain:
    """A retraining that comes to this student; the decision."""

    def decide(plan: Plan, number: int, **more: Any) -> Decision:
        return register.fn(root, plan, run_of(root, plan, number, tmp_path / "runs", **more))

    return decide


def champion_of(root: Path, plan: Plan) -> str | None:
    return promotion.standing(tracking.client(root), plan.dataset).champion or None


def tags_of(root: Path, plan: Plan, version: str) -> dict[str, str]:
    return dict(tracking.client(root).get_model_version(plan.dataset, version).tags)


def test_the_first_becomes_champion(root: Path, sit: Any, tmp_path: Path) -> None:
    """After the first retraining there is a champion, which says where it comes from and what it has seen; the best by
    validation it is, not the best on test. Its model is of the dataset's experiment, as its run;
    the process's address of MLflow stays what it was."""
    plan = sit(range(30), range(5))
    results = [run_of(root, plan, number, tmp_path / "runs", accuracy=0.9 - number / 10) for number in (1, 0)]
    address = os.environ.get("MLFLOW_TRACKING_URI")
    decision = register.fn(root, plan, challenger(results))
    assert os.environ.get("MLFLOW_TRACKING_URI") == address
    assert decision == Decision(True, "the first champion", "student0", "1", {"champion/test_accuracy": 0.9})
    version = tracking.client(root).get_model_version_by_alias(plan.dataset, "champion")
    run = tracking.client(root).get_run(version.run_id)
    assert (str(version.version), run.info.run_name, run.info.status) == ("1", "student0", "FINISHED")
    assert version.tags["data_md5"] == plan.data_md5
    assert version.tags["decision"] == "promoted"
    assert version.tags["test_set"] == run.data.tags["test_set"]
    assert "promoted:** the first champion" in version.description
    store = Store(plan.prepared)
    seen = pd.read_parquet(Path(run.info.artifact_uri) / "data/trained.parquet")
    assert seen["sha256"].tolist() == store.manifest["sha256"][store.part("train")].tolist()
    (model,) = tracking.client(root).search_logged_models([run.info.experiment_id])
    assert model.name == "student0"
    assert model.source_run_id == run.info.run_id


def test_a_failure_while_registering_costs_no_training(
    root: Path, sit: Any, retrain: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The challenger's run stays finished when its model cannot be logged, so that the next retraining registers it."""
    import mlflow.pyfunc

    plan = sit(range(5))

    def full(**_: Any) -> None:
        raise OSError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.pyfunc, "save_model", full)
        with pytest.raises(OSError, match="no room"):
            retrain(plan, 0)
    client = tracking.client(root)
    found = client.search_runs([client.get_experiment_by_name(plan.dataset).experiment_id])
    assert [run.info.status for run in found] == ["FINISHED"]


def test_a_champion_without_a_run_stays(root: Path, sit: Any, retrain: Retrain) -> None:
    """A version that somebody registered without a run and made champion in MLflow's pages: nothing is compared with
    it, the reason says what to do, and the retraining ends well."""
    plan = sit(range(5), range(5))
    retrain(plan, 0)
    client = tracking.client(root)
    made = client.create_model_version(plan.dataset, str(root / "somewhere"))
    client.set_registered_model_alias(plan.dataset, "champion", str(made.version))
    decision = retrain(plan, 1)
    assert not decision.promoted and "was registered without a run" in decision.why
    assert champion_of(root, plan) == str(made.version)


def test_of_equally_good_ones_the_surer_is_taken(root: Path, sit: Any, tmp_path: Path) -> None:
    """Where validation accuracies are equal, the smaller validation loss decides."""
    plan = sit(range(5), range(5))
    one, other = (run_of(root, plan, number, tmp_path / "runs") for number in (0, 1))
    surer = replace(other, metrics=other.metrics | {"val/log_loss": 0.05})
    assert challenger([one, surer]).name == challenger([surer, one]).name == "student1"


def test_a_better_one_takes_over(root: Path, sit: Any, retrain: Retrain) -> None:
    """Right on 15 images where the champion is wrong, wrong on 1: promoted, and the evidence stands on the version, on
    the run and in the history."""
    plan = sit(range(20), [*range(5), 40])
    retrain(plan, 0)
    decision = retrain(plan, 1)
    assert decision.promoted and "wrong on 15 of 100 images and wrong where it is right on 1: better" in decision.why
    assert champion_of(root, plan) == decision.version == "2"
    client = tracking.client(root)
    version = client.get_model_version(plan.dataset, "2")
    assert version.tags["decision"] == "promoted" and version.tags["why"] == decision.why
    assert "| votes gained, lost, possible | 15, 1, 100 |" in version.description
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["test/delta_to_champion"] == pytest.approx(0.14) == decision.figures["test/delta_to_champion"]
    assert (metrics["gate/gained"], metrics["gate/lost"]) == (15, 1)
    assert "disagreements.png" in [file.path for file in client.list_artifacts(version.run_id)]
    now = promotion.standing(client, plan.dataset)
    assert (now.champion, now.previous, now.best, now.elsewhere) == ("2", "1", "2", "")
    assert [(move.start, move.to, move.policy) for move in now.moves] == [("", "1", "first"), ("1", "2", "better")]
    assert now.moves[1].why == decision.why and now.moves[1].evidence.items() <= decision.figures.items()


def test_luck_is_not_enough(root: Path, sit: Any, retrain: Retrain) -> None:
    """Higher accuracy on few images changes nothing: the challenger is registered with the reason, no more."""
    plan = sit(range(12), [*range(3), 20, 21, 22])
    retrain(plan, 0)
    decision = retrain(plan, 1)
    assert not decision.promoted
    assert "on 9 of 100 images and wrong where it is right on 3: not enough, p = 0.15; about" in decision.why
    assert (decision.version, champion_of(root, plan)) == ("2", "1")
    tags = tags_of(root, plan, "2")
    assert (tags["decision"], tags["why"]) == ("not promoted", decision.why)


def test_too_few_images_spend_no_look(root: Path, sit: Any, retrain: Retrain) -> None:
    """Nights on which nothing could be decided do not wear a test set out: the first one that can is the first look."""
    plan = sit(range(20), range(19), range(5))
    retrain(plan, 0)
    rules(root, min_images=101)
    assert "100 test images can decide nothing: 1 more are needed" in retrain(plan, 1).why
    rules(root)
    decision = retrain(plan, 2)
    assert decision.promoted and tags_of(root, plan, decision.version or "")["look"] == "1"


def test_a_champion_made_again_spends_no_look(root: Path, sit: Any, retrain: Retrain) -> None:
    """As after an edit of the code that changes no weight: what says the same proves nothing, and wears out nothing."""
    plan = sit(range(20), range(5))
    retrain(plan, 0)
    assert retrain(plan, 0).why == "it is the champion, version 1, made again"
    assert tags_of(root, plan, retrain(plan, 1).version or "")["look"] == "1"


def test_a_first_champion_without_skill_is_told(root: Path, sit: Any, tmp_path: Path) -> None:
    """One that is no better than the commonest class, always said, becomes champion where nothing is asked of it, and
    the verdict says so; `at_least` keeps it out."""
    plan = sit(range(5))
    guessing = [run_of(root, plan, 0, tmp_path / "runs") for _ in range(2)]
    guessing = [replace(one, metrics=one.metrics | {"test/accuracy": 0.1}) for one in guessing]
    rules(root, at_least="{test/accuracy: 0.5}")
    assert "test/accuracy is 0.1, at least 0.5 is wanted" in register.fn(root, plan, guessing[0]).why
    rules(root)
    decision = register.fn(root, plan, guessing[1])
    assert decision.promoted and "the first champion; no better than always saying '" in decision.why


def test_looks_at_one_test_set_are_counted(root: Path, sit: Any, retrain: Retrain) -> None:
    """The same evidence that would do at the first look does not at the third; a few new images change nothing about
    that, more new than old ones begin anew."""
    champion, equal, better = range(20), range(20), [*range(10), 40]
    plan = sit(champion, equal, better)
    retrain(plan, 0)
    assert "p = 1;" not in retrain(plan, 1).why
    assert "is asked for at look 2 at this test set" in retrain(plan, 1).why
    grown = sit(champion, equal, better, images=110)
    decision = retrain(grown, 2)
    assert not decision.promoted
    assert "p = 0.012 (0.0083 is asked for at look 3 at this test set)" in decision.why
    assert tags_of(root, plan, decision.version or "")["look"] == "3"
    assert retrain(sit(champion, equal, better, images=221), 2).promoted


def test_a_model_is_logged_under_its_variants_name() -> None:
    """Without what MLflow refuses there, and a file in params/models may be called."""
    for name, logged in (("cnn", "cnn"), ("cnn_v1.2", "cnn_v1-2"), ("50 % ('b')", "50 - (-b-)")):
        assert name.translate(NOT_IN_A_NAME) == logged
        _validate_logged_model_name(logged)


def test_a_test_set_of_which_half_is_new_is_the_same_one(root: Path, sit: Any, retrain: Retrain) -> None:
    """A test set counts as another one only once more than half of its images are new."""
    retrain(sit(range(20), range(20), images=60), 0)
    looks = []
    for images in (60, 120, 121):
        plan = sit(range(20), range(20), images=images)
        looks.append(tags_of(root, plan, retrain(plan, 1).version or "")["look"])
    assert looks == ["1", "2", "2"]


def test_a_test_set_that_grows_for_years_is_counted_in_few_words(
    root: Path, sit: Any, retrain: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database keeps 5,000 characters of a tag: sizes of a test set beyond some are counted with the next larger one,
    and none of its looks is forgotten."""
    monkeypatch.setattr(gate, "SIZES", 2)
    students = range(20), range(20)
    retrain(sit(*students), 0)
    for look, images in enumerate((101, 102, 103, 104), 1):
        decision = retrain(sit(*students, images=images), 1)
        assert tags_of(root, sit(*students), decision.version or "")["look"] == str(look)
    (tag,) = (
        v for k, v in tracking.client(root).get_registered_model(sit(*students).dataset).tags.items() if k == gate.LOOKS
    )
    assert json.loads(tag) == {"103": 3, "104": 1}


def test_only_new_data_and_not_worse_is_enough(root: Path, sit: Any, retrain: Retrain) -> None:
    """By default, a champion's successor by the same recipe on new data need not be better, only not worse; another
    recipe must be better."""
    rules(root, policy="by_change")
    plan = sit(range(10), range(10), images=200)
    retrain(plan, 0, tags=INGREDIENTS | {"ingredient.data": "1"})
    other = retrain(plan, 1, tags=INGREDIENTS | {"ingredient.data": "2", "ingredient.params": "{...}"})
    assert not other.promoted and "not better, p = 1" in other.why
    rules(root, policy="by_change", alpha=0.2)  # this is the second look
    same = retrain(plan, 1, tags=INGREDIENTS | {"ingredient.data": "2"})
    assert same.promoted and "not worse by 3 points" in same.why
    assert tags_of(root, plan, same.version or "")["policy"] == "not_worse"


def test_another_seed_on_the_same_data_must_be_better(root: Path, sit: Any, retrain: Retrain) -> None:
    """`by_change` is lenient only where the data is new: on the same data, an equal model of another seed stays out."""
    rules(root, policy="by_change")
    plan, tags = sit(range(10), range(10), images=200), INGREDIENTS | {"ingredient.data": "1"}
    retrain(plan, 0, tags=tags)
    again = retrain(plan, 1, tags=tags)
    assert not again.promoted and tags_of(root, plan, again.version or "")["policy"] == "better"


def test_nothing_slides_down_step_by_step(root: Path, sit: Any, retrain: Retrain) -> None:
    """Each challenger loses 5 images of 400 to the one before: the first is within the margin and gets in, the next
    ones are as near to the champion, and too far from the best."""
    rules(root, policy="not_worse", alpha=0.4)
    plan = sit(range(10), range(15), range(20), range(25), images=400)
    decisions = [retrain(plan, number) for number in range(4)]
    assert [decision.promoted for decision in decisions] == [True, True, False, False]
    assert "than version 1, the best champion so far" in decisions[2].why
    now = promotion.standing(tracking.client(root), plan.dataset)
    assert (now.champion, now.best) == ("2", "1")


def test_images_that_a_model_was_trained_on_do_not_count(root: Path, sit: Any, retrain: Retrain) -> None:
    """A challenger that has seen 20 of the test images cannot shine with them: they are left out for both."""
    plan = sit(range(20), [])
    retrain(plan, 0)
    cheat = sit(range(20), [])
    manifest = pd.read_parquet(cheat.prepared / "manifest.parquet")
    manifest.loc[manifest.index[12:32], "split"] = "train"
    manifest.to_parquet(cheat.prepared / "manifest.parquet")
    seal(cheat.prepared)
    result = run_of(root, cheat, 1, plan.prepared.parent / "runs")
    made = register.fn(root, replace(cheat, older=True), result)  # by another clone's ledger
    client = tracking.client(root)
    client.delete_model_version_tag(plan.dataset, made.version, "decision")  # so that it is decided on today
    decision = register.fn(root, plan, result)
    assert decision.version == made.version and not decision.promoted
    assert "on 0 of 80 images" in decision.why
    assert "20 test images left out because one of the two was trained on them" in decision.why


def test_a_limit_holds_whatever_the_accuracy(root: Path, sit: Any, retrain: Retrain) -> None:
    """What exceeds a limit of params/register.yaml, or has no such metric, does not become champion."""
    rules(root, limits="{test/ece: 0.1, test/accuracy: 0.5}")
    decision = retrain(sit([]), 0)
    assert not decision.promoted
    assert "test/ece is not on record; test/accuracy is 0.9, at most 0.5 is allowed" in decision.why


@pytest.mark.fault(47)
def test_labels_that_are_doubted_keep_the_gate_shut(root: Path, sit: Any, tmp_path: Path) -> None:
    """However good a challenger is, where the share of doubted labels rose by more than `suspected_rise` since the
    champion it is not promoted, and the shares are told; a smaller rise is let in, and a champion without one, too."""

    def retrained(plan: Plan, number: int, **share: float) -> Decision:
        result = run_of(root, plan, number, tmp_path / "runs")
        tracking.log(root, result.run_id, metrics=share)
        return register.fn(root, plan, replace(result, metrics=result.metrics | share))

    plan = sit(range(40), range(20), [])
    assert retrained(plan, 0).promoted
    assert retrained(plan, 1, **{SUSPECTED: 0.04}).promoted
    decision = retrained(plan, 2, **{SUSPECTED: 0.14})
    assert not decision.promoted and champion_of(root, plan) == "2"
    assert decision.why.startswith("14.0% of the labels are doubted, 4.0% when version 2 was trained: look at suspects")
    assert tags_of(root, plan, "3")["look"] == "0"  # none was spent
    assert "data/suspected is not on record" in retrained(plan, 2).why
    assert retrained(plan, 2, **{SUSPECTED: 0.09}).promoted


@pytest.mark.fault(45)
def test_a_champion_of_other_classes_stays(root: Path, sit: Any, retrain: Retrain) -> None:
    """Models that share fewer than two classes cannot be compared: a person decides."""
    plan = sit(range(20), [])
    assert retrain(plan, 0, model=student(0, ["cat", "cloudy", "dog"])).promoted
    decision = retrain(plan, 1)
    assert "version 1: the classes of version 1 are cat, cloudy, dog, the challenger's cloudy, r" in decision.why
    assert champion_of(root, plan) == "1"


@pytest.mark.fault(45)
def test_models_of_partly_other_classes_meet_on_the_common_ones(sit: Any, retrain: Retrain) -> None:
    """A class that came or went does not end the comparison; the decision says on what it rests."""
    plan = sit(range(20), [])
    retrain(plan, 0, model=student(0, ["cat", *CLASSES[1:]]))
    assert "on the common classes rain, shine" in retrain(plan, 1).why


def test_a_champion_that_computes_something_else_stays(root: Path, sit: Any, retrain: Retrain) -> None:
    """When a champion's logits on its own probe are not what they were, the code has changed under it: nothing is
    decided on such figures, and the commit to use is named."""
    from safetensors.torch import load_file, save_file

    plan = sit(range(20), [])
    retrain(plan, 0)
    client = tracking.client(root)
    run = client.get_model_version_by_alias(plan.dataset, "champion").run_id
    probe = Path(client.get_run(run).info.artifact_uri) / "model/probe.safetensors"
    remembered = load_file(probe)
    remembered["logits"] += 0.01
    save_file(remembered, probe)
    decision = retrain(plan, 1)
    assert not decision.promoted
    assert (
        "logits of version 1 on its own probe differ by 0.01: load it with the code of commit 0123abc" in decision.why
    )
    assert champion_of(root, plan) == "1"


@pytest.mark.parametrize("gone", ["model", "data"])
def test_a_champion_whose_files_are_gone_stays(root: Path, sit: Any, retrain: Retrain, gone: str) -> None:
    """Somebody cleaned up mlruns/: the retraining says that the champion cannot be compared, and ends well."""
    plan = sit(range(20), [])
    retrain(plan, 0)
    client = tracking.client(root)
    run = client.get_model_version_by_alias(plan.dataset, "champion").run_id
    shutil.rmtree(Path(client.get_run(run).info.artifact_uri) / gone)
    decision = retrain(plan, 1)
    assert decision.why.startswith(f"not compared with the champion, version 1: run {run} of version 1 ")
    assert champion_of(root, plan) == "1"


def test_never_means_never(root: Path, sit: Any, retrain: Retrain) -> None:
    """With `policy: never`, retrainings register and people promote; with `manual`, they are told the evidence."""
    rules(root, policy="never")
    plan = sit(range(20), [])
    decision = retrain(plan, 0)
    assert (decision.promoted, decision.version) == (False, "1")
    assert decision.why == "policy is 'never' in params/register.yaml"
    rules(root, policy="manual")
    assert retrain(plan, 0).why == "no champion yet: a person decides (policy manual)"
    assert champion_of(root, plan) is None
    client = tracking.client(root)
    promotion.promote(client, plan.dataset, "1", "the better of two", "anna")
    decision = retrain(plan, 1)
    assert not decision.promoted and "wrong on 20 of 100 images" in decision.why and "a person decides" in decision.why
    assert champion_of(root, plan) == "1"


def test_what_was_never_judged_is_judged_when_it_can_be(root: Path, sit: Any, tmp_path: Path) -> None:
    """A refusal for another version of the data, by `policy: never`, or because the champion's files were gone stands
    as long as that does: the same training on today's data, under another policy or with the files brought back meets
    the gate, as the same version."""
    plan = sit(range(20), [], range(15))
    first, better, _ = (run_of(root, plan, number, tmp_path / "runs") for number in range(3))
    older = replace(plan, older=True)
    assert register.fn(root, older, better).unjudged == "older data"
    again = register.fn(root, older, replace(better, reused=True))
    assert "version 1 already (not promoted)" in again.why and again.unjudged == "older data"
    assert register.fn(root, plan, first).promoted
    rules(root, policy="never")
    assert register.fn(root, plan, better).unjudged == register.fn(root, plan, better).unjudged == "policy never"
    rules(root)
    artifacts = Path(tracking.client(root).get_run(first.run_id).info.artifact_uri)
    (artifacts / "model").rename(artifacts / "away")
    for _ in range(2):
        assert "no longer holds the model" in register.fn(root, plan, better).why
    (artifacts / "away").rename(artifacts / "model")
    decision = register.fn(root, plan, replace(better, reused=True))
    assert (decision.promoted, decision.version, decision.unjudged) == (True, "1", "")
    assert champion_of(root, plan) == "1" and "unjudged" not in tags_of(root, plan, "1")
    assert "already (promoted)" in register.fn(root, plan, replace(better, reused=True)).why


def test_a_kill_leaves_no_refusal_that_stands(
    root: Path, sit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a refusal that says nothing of the challenger is interrupted, the challenger is judged later on."""
    plan = sit(range(20), [])
    first, better = (run_of(root, plan, number, tmp_path / "runs") for number in range(2))
    register.fn(root, plan, first)
    made, write = tracking.client(root), tracking.client(root).set_model_version_tag

    def killed(at: str, name: str, version: str, key: str, value: str) -> None:
        write(name, version, key, value)
        if key == at:
            raise KeyboardInterrupt

    for at in ("why", "unjudged", "decision"):
        with monkeypatch.context() as patch:
            patch.setattr(made, "set_model_version_tag", partial(killed, at), raising=False)
            with pytest.raises(KeyboardInterrupt):
                register.fn(root, replace(plan, older=True), better)
    assert register.fn(root, plan, better).promoted


def test_what_a_person_took_back_is_not_judged_anew(root: Path, sit: Any, tmp_path: Path) -> None:
    """A version that was never judged, made champion by hand and rolled back, stays what that person left."""
    plan = sit(range(20), [])
    first, better = (run_of(root, plan, number, tmp_path / "runs") for number in range(2))
    register.fn(root, plan, first)
    register.fn(root, replace(plan, older=True), better)
    client = tracking.client(root)
    promotion.promote(client, plan.dataset, "2", "better", "anna")
    promotion.rollback(client, plan.dataset, "it is not", "anna")
    decision = register.fn(root, plan, replace(better, reused=True))
    assert (decision.promoted, decision.unjudged, champion_of(root, plan)) == (False, "", "1")


def test_a_question_that_was_not_asked_is_asked(
    root: Path, sit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the decision to ask and the question, a retraining that goes on asks; after that no other does."""
    rules(root, policy="manual")
    monkeypatch.setattr("tasks.register.can_ask", lambda: True)  # as in the run of a deployment
    plan = sit([])
    best = run_of(root, plan, 0, tmp_path / "runs")
    decisions = [register.fn(root, plan, best) for _ in range(2)]
    assert [one.version for one in decisions] == ["1", "1"] and all(one.asks for one in decisions)
    tags = {"kind": "retraining", "decision": WAITING, "model_version": "1"}
    tracking.start_run(root, tracking.experiment(root, plan.dataset), "asked", tags)
    assert not register.fn(root, plan, best).asks


def test_what_stands_is_not_registered_twice(root: Path, sit: Any, tmp_path: Path) -> None:
    """When the best variant was not trained again, there is no new version and the champion stays."""
    plan = sit([])
    best = run_of(root, plan, 0, tmp_path / "runs")
    register.fn(root, plan, best)
    decision = register.fn(root, plan, replace(best, reused=True))
    assert (decision.promoted, decision.version) == (False, None)
    assert "still the best by validation, and version 1 already" in decision.why
    assert len(tracking.client(root).search_model_versions(f"name = '{plan.dataset}'")) == 1


def test_what_was_decided_before_a_kill_is_what_the_retraining_says(root: Path, sit: Any, tmp_path: Path) -> None:
    """Killed between its decision and its own end, a retraining that goes on closes with that decision and its figures,
    whether it had promoted or not, and registers nothing anew."""
    plan = sit(range(20), [])
    for number, promoted in ((1, True), (0, False)):
        best = run_of(root, plan, number, tmp_path / "runs")
        decision = register.fn(root, plan, best)
        found = dict(tracking.client(root).get_run(best.run_id).data.metrics)
        again = register.fn(root, plan, replace(best, metrics=found))
        assert again.promoted == decision.promoted == promoted
        assert replace(again, figures={}) == replace(decision, figures={})
        assert again.figures.items() <= decision.figures.items() and len(again.figures) > 8 * (not promoted)
    assert len(tracking.client(root).search_model_versions(f"name = '{plan.dataset}'")) == 2


def test_a_champion_that_was_made_elsewhere_is_the_one_to_beat(root: Path, sit: Any, retrain: Retrain) -> None:
    """By hand in MLflow's pages: the challenger meets the one that is champion now, and the decision says what was
    seen."""
    plan = sit(range(20), [], range(30))
    retrain(plan, 0)
    retrain(plan, 2)
    tracking.client(root).set_registered_model_alias(plan.dataset, "champion", "2")
    decision = retrain(plan, 1)
    assert decision.promoted and "the champion, version 2, is wrong on 30 of 100 images" in decision.why
    assert decision.why.endswith("the last recorded move led to version 1: the alias was moved elsewhere")


def test_the_best_champion_so_far_must_be_there(root: Path, sit: Any, retrain: Retrain) -> None:
    """Where somebody deleted its version, the champion stays, and a person can name the present one the best."""
    rules(root, policy="not_worse")
    plan = sit(range(10), range(10), range(10), images=400)
    assert [retrain(plan, number).promoted for number in (0, 1)] == [True, True]
    client = tracking.client(root)
    client.delete_model_version(plan.dataset, "1")
    assert "version 1, the best champion so far, was deleted: 'weathervane promote" in retrain(plan, 2).why
    promotion.promote(client, plan.dataset, "2", "the other one is gone", "anna")
    now = promotion.standing(client, plan.dataset)
    assert (now.champion, now.best, now.previous) == ("2", "2", "")  # MLflow drops a deleted version's aliases


def test_a_champion_that_was_removed_is_not_replaced_by_chance(root: Path, sit: Any, retrain: Retrain) -> None:
    """Deleting the champion's version drops its alias without a word: the next challenger is not "the first
    champion" then; a person is told what happened and decides."""
    plan = sit(range(20), [])
    retrain(plan, 0)
    tracking.client(root).delete_model_version(plan.dataset, "1")
    decision = retrain(plan, 1)
    assert not decision.promoted
    assert "there is no champion, but the last recorded move led to version 1: the alias was moved els" in decision.why
    assert "weathervane promote VERSION" in decision.why


@pytest.mark.slow
def test_anybodys_mlflow_loads_the_champion(root: Path, sit: Any, retrain: Retrain, tmp_path: Path) -> None:
    """`mlflow.pyfunc.load_model` elsewhere, with pickles forbidden, classifies JPEG bytes as the model here does, with
    the code that was logged; it opens no file of its host, and tells bad images in one clean line."""
    import base64

    plan = sit([])
    retrain(plan, 0)
    model = student(0)
    photographs = [data for _, data in synthetic.images(1, 5)]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOADS, f"models:/{plan.dataset}@champion"],
        cwd=tmp_path,
        env=environment,
        input="\n".join(base64.b64encode(data).decode() for data in photographs),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert str(root) in told["code"]
    classes, expected = model.spec.classes, model.classify(photographs)
    for row, probabilities in zip(told["rows"], expected, strict=True):
        assert row["class"] == classes[int(probabilities.argmax())]
        assert row["probability"] == pytest.approx(float(probabilities.max()), abs=1e-6)
        assert [row[f"p_{label}"] for label in classes] == pytest.approx(probabilities.tolist(), abs=1e-6)
    string, no_image, empty = told["errors"]
    assert string.startswith("INVALID_PARAMETER_VALUE: ") and "image bytes are expected, not str" in string
    assert no_image.startswith("INVALID_PARAMETER_VALUE: an image cannot be used: ")
    assert empty.startswith("INVALID_PARAMETER_VALUE: an image cannot be used: ")
    assert not any("\n" in error for error in told["errors"])
