"""What a retraining would do, asked of a store in which real runs were recorded by the flow's own steps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import tracking
from tasks.dvc_lock import prepared_md5
from tasks.plan import Candidate, Plan, finished_crossval, make_plan, read_variants
from tasks.runs import close_retraining, open_retraining, open_variant
from tasks.tags import CLEANED
from tests.conftest import copy_project
from weathervane import variant
from weathervane.errors import InputError
from weathervane.fingerprint import digest
from weathervane.folds import Crossing
from weathervane.ledger import Ledger, Row

FAST = ["train.epochs=3"]


@pytest.fixture(scope="module")
def project_root(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Path:
    """A project with prepared data on record, and a store."""
    root = copy_project(tmp_path_factory.mktemp("plan"))
    outs = [{"path": "data/prepared/pixels", "hash": "md5", "md5": "1" * 32 + ".dir"}]
    lock = {"schema": "2.0", "stages": {"prepare": {"cmd": "python -m weathervane.prepare", "outs": outs}}}
    (root / "dvc.lock").write_text(json.dumps(lock))
    (root / "data/raw.dvc").write_text(json.dumps({"outs": [{"md5": "2" * 32 + ".dir", "path": "raw"}]}))
    shutil.copy(fresh_database, root)
    return root


@pytest.fixture
def root(project_root: Path, request: pytest.FixtureRequest) -> Path:
    """The same project with a dataset of the test's own: an experiment without any run."""
    ledger = Ledger(project_root / "data/raw")
    ledger.dataset = request.node.name.replace("[", "-").replace("]", "")[:60]
    ledger.write()
    return project_root


def plan_of(root: Path, changes: list[str] | None = None, names: tuple[str, ...] = ("cnn",), seed: int = 0) -> Plan:
    return make_plan(root, read_variants(root, list(names), changes or FAST), seed)


def record(root: Path, plan: Plan, *, status: str = "FINISHED", parent_status: str = "FINISHED",
           decision: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:  # fmt: skip
    """A retraining of the plan as the flow would leave it; its run and those of the variants."""
    parent, children = open_retraining.fn(root, plan), {}
    for candidate in plan.candidates:
        children[candidate.name] = open_variant.fn(root, plan, candidate, parent)
        tracking.log(root, children[candidate.name], metrics={"train/seconds": 30.0})
        tracking.end_run(root, children[candidate.name], status)
    if parent_status == "RUNNING":
        return parent, children
    tags = {"decision": "not promoted", "decision_why": "worse"} if decision is None else decision
    close_retraining.fn(root, parent, [], tags, parent_status)
    return parent, children


def with_ingredients(plan: Plan, **other: str) -> Plan:
    """The plan as it was when something that cannot be changed here was otherwise."""

    def older(candidate: Candidate) -> Candidate:
        needed = candidate.ingredients | other
        return replace(candidate, ingredients=needed, fingerprint=digest(needed))

    return replace(plan, candidates=[older(candidate) for candidate in plan.candidates])


def why(plan: Plan, name: str = "cnn") -> str:
    return next(candidate.why for candidate in plan.candidates if candidate.name == name)


def test_at_first_everything_is_trained(root: Path) -> None:
    """On a dataset that was never trained on, every variant of params/models is trained that does not say
    `by_default: false`; nobody knows how long."""
    plan = plan_of(root, names=())
    files = root.glob("params/models/*.yaml")
    meant = sorted(path.stem for path in files if "\nby_default: false\n" not in path.read_text())
    assert [candidate.name for candidate in plan.to_train] == meant == variant.defaults(root)
    assert {candidate.why for candidate in plan.candidates} == {"never trained on this dataset"}
    assert [candidate.seconds for candidate in plan.candidates] == [None] * len(plan.candidates)
    assert not plan.nothing_to_do


def test_a_second_time_nothing_is_to_do(root: Path) -> None:
    """What was trained and decided is not trained again; each variant is listed with the run that it comes from."""
    _, children = record(root, plan_of(root, names=()))
    again = plan_of(root, names=())
    assert again.nothing_to_do and again.to_train == []
    assert {candidate.name: candidate.run.run_id for candidate in again.candidates if candidate.run} == children
    assert {candidate.why for candidate in again.candidates} == {"unchanged"}
    assert plan_of(root, names=("dnn",)).nothing_to_do


def test_a_copy_under_another_name_is_another_variant(root: Path) -> None:
    """With equal parameters, too, and whichever of the two are asked for: it is trained under its own name."""
    record(root, plan_of(root, names=("dnn",)))
    (root / "params/models/mine.yaml").write_text((root / "params/models/dnn.yaml").read_text())
    for names in (("mine",), ("dnn", "mine")):
        assert [candidate.name for candidate in plan_of(root, names=names).to_train] == ["mine"]


@pytest.mark.parametrize(
    ("parent_status", "decision"), [("RUNNING", {}), ("FAILED", None), ("KILLED", {}), ("FINISHED", {})]
)
def test_an_undecided_retraining_is_taken_up_again(
    root: Path, parent_status: str, decision: dict[str, str] | None
) -> None:
    """A retraining that was killed after training keeps its trained variants, and a decision is still to be made."""
    record(root, plan_of(root), parent_status=parent_status, decision=decision)
    again = plan_of(root)
    assert again.to_train == []
    assert not again.nothing_to_do


def test_after_a_failed_night_nothing_is_left_to_do_again(root: Path) -> None:
    """A variant whose retraining failed for another one's sake stands once a later retraining, which reused it, came to
    a decision; before that it does not."""
    both = ("cnn", "dnn")
    first = plan_of(root, names=both)
    parent = open_retraining.fn(root, first)
    for candidate, status in zip(first.candidates, ("FINISHED", "FAILED"), strict=True):
        tracking.end_run(root, open_variant.fn(root, first, candidate, parent), status)
    close_retraining.fn(root, parent, [], {"decision": "promoted", "decision_why": "the first"}, "FAILED")
    second = plan_of(root, names=both)
    assert [one.name for one in second.to_train] == ["dnn"] and not plan_of(root, names=("cnn",)).nothing_to_do
    parent = open_retraining.fn(root, second)
    tracking.end_run(root, open_variant.fn(root, second, second.to_train[0], parent))
    assert not plan_of(root, names=both).nothing_to_do
    close_retraining.fn(root, parent, [], {"decision": "not promoted", "decision_why": "worse"}, "FINISHED")
    assert plan_of(root, names=both).nothing_to_do


def test_a_refusal_stands_as_long_as_its_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused because it was trained on another version of the data is settled for that, and not as today's;
    what could not be compared is never settled; `policy: never` settles while it is the policy."""
    refused = {"decision": "not promoted", "decision_why": "..."}
    plan = plan_of(root)
    record(root, replace(plan, older=True), decision=refused | {"unjudged": "older data"})
    assert plan_of(root).to_train == [] and not plan_of(root).nothing_to_do
    home = root / f".weathervane/versions/{plan.data_md5.removesuffix('.dir')}"
    shutil.copytree(root / "data/raw", home / "data/raw")
    monkeypatch.setattr("tasks.plan.md5_of_prepared", lambda root, home: prepared_md5(root))  # no pixels in this file
    older = make_plan(root, read_variants(root, ["cnn"], FAST), 0, home)
    assert older.older and older.nothing_to_do
    record(root, plan, decision=refused | {"unjudged": "not compared"})
    assert not plan_of(root).nothing_to_do
    record(root, plan, decision=refused | {"unjudged": "policy never"})
    rules = root / "params/register.yaml"
    before = rules.read_text(encoding="utf-8")
    try:
        assert not plan_of(root).nothing_to_do
        rules.write_text(before.replace("policy: by_change", "policy: never"), encoding="utf-8")
        assert plan_of(root).nothing_to_do
    finally:
        rules.write_text(before, encoding="utf-8")


def test_a_retraining_that_goes_on_as_todays_is_none_of_older_data(root: Path) -> None:
    """One that was killed on what was then another version of the data, and goes on when it is today's, says so no
    more."""
    plan = plan_of(root)
    parent = open_retraining.fn(root, replace(plan, older=True))
    tracking.end_run(root, parent, "KILLED")
    assert open_retraining.fn(root, plan) == parent
    assert "older_data" not in tracking.client(root).get_run(parent).data.tags


def test_a_deleted_retraining_is_no_decision(root: Path) -> None:
    """Who deletes the parent run in MLflow's pages gets the decision made anew."""
    parent, _ = record(root, plan_of(root))
    tracking.client(root).delete_run(parent)
    assert not plan_of(root).nothing_to_do


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_a_run_that_did_not_finish_is_trained_again(root: Path, status: str) -> None:
    """A training that failed or was killed does not count as done, and the next plan says so."""
    record(root, plan_of(root), status=status)
    again = plan_of(root)
    assert len(again.to_train) == len(again.candidates)
    assert why(again) == f"its last run is {status}"


CHANGES = {
    "a number": (["train.epochs=5"], "--set: train.epochs 3 → 5"),
    "two": (["train.epochs=5", "cnn.size=32"], "--set: size 96 → 32, train.epochs 3 → 5"),
    "a list": ([*FAST, "augment.crop=[0.9, 1.0]"], "--set: augment.crop [0.35, 1.0] → [0.9, 1.0]"),
    "a word": ([*FAST, "train.optimizer=adamw"], "--set: train.optimizer sgd → adamw"),
    "the network": ([*FAST, "cnn.network.width=8"], "--set: network.width 32 → 8"),
    "back to the file": (["cnn.network.width=8"], "cnn.yaml: train.epochs 3 → 80; --set: network.width 32 → 8"),
}


@pytest.mark.parametrize(("changes", "told"), CHANGES.values(), ids=CHANGES)
def test_a_changed_parameter_is_told_with_both_values(root: Path, changes: list[str], told: str) -> None:
    """The plan says which parameter differs from the last training, before and now, and where it stands now."""
    record(root, plan_of(root))
    assert why(plan_of(root, changes)) == told


def test_only_the_changed_variant_is_trained(root: Path) -> None:
    """Editing one variant's file costs the training of that variant."""
    record(root, plan_of(root, names=("cnn", "dnn")))
    again = plan_of(root, [*FAST, "cnn.network.width=8"], names=("cnn", "dnn"))
    assert [candidate.name for candidate in again.to_train] == ["cnn"]


def test_a_variant_of_another_family_is_told_by_its_keys(root: Path) -> None:
    """A key that the last training did not have, or that is gone, is shown with a dash."""
    plan = plan_of(root)
    (candidate,) = plan.candidates
    content = json.loads(candidate.ingredients["params"])
    content["network"] = {"depth": 7, **{key: value for key, value in content["network"].items() if key != "width"}}
    record(root, with_ingredients(plan, params=json.dumps(content, sort_keys=True)))
    assert why(plan_of(root)) == "cnn.yaml: network.depth 7 → –, network.width – → 32"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"data": "0" * 32}, "the prepared data changed"),
        ({"code": "0" * 16}, "code changed"),
        ({"code": "1" * 16}, "code changed"),
        ({"torch": "2.0.0"}, "torch 2.0.0 → "),
        ({"data": "0" * 32, "seed": "7", "code": "0" * 16}, "the prepared data changed; seed 7 → 0; code changed"),
    ],
    ids=["data", "code", "code in digits", "a library", "several"],
)
def test_what_else_changed_is_told(root: Path, other: dict[str, str], told: str) -> None:
    """New images, other code and another version of a library each cause a training, by name."""
    record(root, with_ingredients(plan_of(root), **other))
    again = plan_of(root)
    assert len(again.to_train) == len(again.candidates)
    assert why(again).startswith(told)


def test_another_seed_is_another_training(root: Path) -> None:
    """`--seed 1` trains anew, and seed 0 is still known afterwards."""
    record(root, plan_of(root))
    assert why(plan_of(root, seed=1)) == "seed 0 → 1"
    record(root, plan_of(root, seed=1))
    assert plan_of(root, seed=0).nothing_to_do


def test_runs_on_another_dataset_do_not_count(root: Path) -> None:
    """Rendered skies and photographs share neither runs nor champions."""
    record(root, plan_of(root))
    ledger = Ledger.read(root / "data/raw")
    ledger.dataset = f"other-{ledger.dataset}"[:60]
    ledger.write()
    assert why(plan_of(root)) == "never trained on this dataset"


def test_a_variant_that_is_not_there_by_default_is_trained_when_named(root: Path) -> None:
    """`by_default: false` keeps a variant out of a retraining that names none, and is no parameter of its training."""
    path = root / "params/models/shy.yaml"
    path.write_text("by_default: false\n" + (root / "params/models/cnn.yaml").read_text(), encoding="utf-8")
    try:
        assert "shy" not in read_variants(root, None, FAST)
        both = plan_of(root, names=("shy", "cnn"))
        assert [candidate.name for candidate in both.to_train] == ["shy", "cnn"]
        assert both.candidates[0].fingerprint == both.candidates[1].fingerprint
    finally:
        path.unlink()


def test_somebody_must_be_there_by_default(root: Path) -> None:
    """Where every file says `by_default: false`, a retraining that names none says so instead of doing nothing."""
    files = {path: path.read_text(encoding="utf-8") for path in root.glob("params/models/*.yaml")}
    try:
        for path in files:
            if variant.load(root, path.stem).by_default:
                path.write_text("by_default: false\n" + files[path], encoding="utf-8")
        with pytest.raises(InputError, match="no variant that is trained by default: name one with --variants"):
            read_variants(root, None, [])
    finally:
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")


def test_the_time_is_estimated_from_the_last_training(root: Path) -> None:
    """10 epochs take ten thirds of what 3 took."""
    record(root, plan_of(root))
    plan = plan_of(root, ["train.epochs=10"])
    assert [candidate.seconds for candidate in plan.candidates] == [pytest.approx(100.0)] * len(plan.candidates)


def with_images(root: Path) -> None:
    """The ledger has six images of each of two classes, which can be cross-validated."""
    ledger = Ledger.read(root / "data/raw")
    for n in range(12):
        label = "rain" if n % 2 else "shine"
        ledger.rows.append(Row(f"{n}", label, "s", "n", 1, f"{n}", "train", n % 5, 9, 9, "", f"{label}/{n}.png"))
    ledger.write()


def test_cross_validations_and_retrainings_are_told_apart(root: Path) -> None:
    """Neither counts as the other's training; other folds are another cross-validation, told by name; one of fewer
    variants takes theirs over, but is not finished by it."""
    with_images(root)

    def crossed(folds: int, *names: str) -> Plan:
        return make_plan(root, read_variants(root, list(names), FAST), 0, crossing=Crossing(folds=folds))

    record(root, plan_of(root))
    assert why(crossed(3, "cnn")) == "never trained on this dataset"
    parent, children = record(root, crossed(3, "cnn", "dnn"))
    assert why(plan_of(root, names=("cnn", "dnn")), "dnn") == "never trained on this dataset"
    assert plan_of(root).nothing_to_do
    finished = finished_crossval(root, crossed(3, "cnn", "dnn"))
    assert finished and finished.run_id == parent
    assert why(crossed(4, "cnn")) == "folds 3 → 4"
    record(root, crossed(4, "cnn"), parent_status="FAILED")
    assert finished_crossval(root, crossed(4, "cnn")) is None
    fewer = crossed(3, "dnn")
    assert fewer.to_train == [] and finished_crossval(root, fewer) is None
    assert [candidate.run.run_id for candidate in fewer.candidates if candidate.run] == [children["dnn"]]
    with pytest.raises(InputError, match="--folds 7: class 'rain' has 6 images"):
        crossed(7, "cnn")


def test_a_cleaned_cross_validation_is_not_finished(root: Path) -> None:
    """A cross-validation whose artifacts `clean` removed does not count as finished, because its answers are gone; an
    earlier one that still has them does."""
    with_images(root)
    plan = make_plan(root, read_variants(root, ["cnn"], FAST), 0, crossing=Crossing(folds=3))
    earlier, later = (record(root, plan)[0] for _ in range(2))
    for cleaned, left in ((later, earlier), (earlier, None)):
        tracking.log(root, cleaned, tags={CLEANED: "2026-01-01"})
        finished = finished_crossval(root, plan)
        assert (finished.run_id if finished else None) == left


def test_values_are_read_as_yaml(root: Path) -> None:
    """`--set` takes numbers, words, truth values and lists as the params files do, for all variants or for one."""
    changes = ["train.lr=1e-3", "flip_test=false", "augment.crop=[0.5, 1]", "train.epochs=5", "cnn.train.epochs=7"]
    chosen = read_variants(root, ["cnn", "dnn"], changes)
    assert list(chosen) == ["cnn", "dnn"]
    assert [variant.train.lr for variant in chosen.values()] == [0.001, 0.001]
    assert [variant.flip_test for variant in chosen.values()] == [False, False]
    assert [variant.augment.crop for variant in chosen.values()] == [(0.5, 1.0)] * 2
    assert [variant.train.epochs for variant in chosen.values()] == [7, 5]


WRONG = {
    "no value": (["train.epochs"], "--set train.epochs: the form is key=value, as in train.epochs=5"),
    "no key": (["=5"], "--set =5: the form is key=value"),
    "misspelt section": (["trian.epochs=5"], "no key 'trian' (did you mean 'train'?)"),
    "misspelt key": (["cnn.train.epoch=5"], "no key 'epoch' (did you mean 'epochs'?)"),
    "a section": (["train.epochs.first=5"], "'epochs' holds a single value"),
    "out of range": (["train.epochs=0"], "'train.epochs' is 0: "),
    "not a number": (["train.epochs=many"], "'train.epochs' is 'many': "),
    "infinite": (["train.lr=.inf"], "'train.lr' is inf: "),
    "unknown choice": (["train.optimizer=adam"], "'train.optimizer' is 'adam': "),
    "unreadable": (["augment.crop=[0.5"], "cannot read the value '[0.5'"),
    "another variant": (["lstm.train.epochs=5"], "the variant 'lstm' is not among those selected"),
    "a variant alone": (["cnn=5"], "--set cnn=5: name a parameter, as in cnn.train.epochs=5"),
    "one that only some have": (["network.width=5"], "no key 'width'"),
}


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_set_is_one_clear_line(root: Path, changes: list[str], told: str) -> None:
    """Whoever misspells a parameter reads which one, and what was perhaps meant."""
    with pytest.raises(InputError) as error:
        read_variants(root, ["cnn", "dnn"], changes)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_variants_are_told(root: Path) -> None:
    """An unknown variant is answered with those that there are; the same one twice is refused."""
    with pytest.raises(InputError, match=f"no variant 'cnnn'; params/models/ has {', '.join(variant.names(root))}"):
        read_variants(root, ["cnnn"], [])
    with pytest.raises(InputError, match="the same variant stands there twice"):
        read_variants(root, ["cnn", "cnn"], [])
