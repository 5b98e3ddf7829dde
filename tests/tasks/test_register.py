"""Who becomes champion: real models in a real store. The models are untrained; their scores are what they are."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import tracking
from tasks.plan import Plan, Result
from tasks.register import Decision, register
from weathervane import synthetic
from weathervane.model import Model
from weathervane.store import Store

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


@dataclass(frozen=True)
class Trained:
    """A model, as `train` and `evaluate` would leave it in its run."""

    name: str
    model: Model
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("register")
    (root / "params").mkdir()
    policy(root, "better")
    tracking.client(root)
    yield root
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # `register` made the store MLflow's default


@pytest.fixture
def plan(store: Store, request: pytest.FixtureRequest) -> Plan:
    """A retraining on a dataset of the test's own, so that champions do not meet."""
    name = request.node.name.replace("_", "-")[:60]
    return Plan(name, "1" * 32 + ".dir", store.folder, seed=0, candidates=[], older=False)


def policy(root: Path, word: str) -> None:
    (root / "params/register.yaml").write_text(f"policy: {word}\n")


def untrained(store: Store, seed: int, classes: list[str] | None = None, hidden: int = 4) -> Trained:
    import torch

    from weathervane.evaluate import predictions, scores
    from weathervane.fit import seeded
    from weathervane.model import Spec, build

    network = {"hidden": [hidden, hidden], "dropout": 0.0, "input_size": 4}
    about = {"git_commit": "0123abc"}
    spec = Spec(f"dnn{seed}", "dnn", network, 8, store.size, classes or store.classes, False, about)
    with seeded(seed, torch.device("cpu")):
        model = Model(build(spec), spec, torch.device("cpu"))
    metrics = {}
    for part, (split, fold) in {"val": ("train", 0), "test": ("test", None)}.items():
        if set(spec.classes) == set(store.classes):
            table = predictions(model, store, split, fold)
            metrics |= {f"{part}/{key}": value for key, value in scores(table, spec.classes).items()}
    return Trained(spec.variant, model, metrics)


@pytest.fixture(scope="module")
def pool(store: Store) -> list[Trained]:
    """Models that differ in how lucky they are."""
    return [untrained(store, seed) for seed in range(60)]


@pytest.fixture(scope="module")
def ranked(pool: list[Trained]) -> dict[str, Trained]:
    """A champion, and challengers that differ from it in one way each."""

    def compare(one: Trained, other: Trained) -> tuple[int, int]:
        signs = [np.sign(one.metrics[key] - other.metrics[key]) for key in ("val/accuracy", "test/accuracy")]
        return int(signs[0]), int(signs[1])

    for champion in pool:
        by_signs = {compare(one, champion): one for one in pool if one is not champion}
        if {(1, 1), (1, -1), (1, 0), (0, 1), (-1, 1)} <= set(by_signs):
            return {
                "champion": champion,
                "better": by_signs[1, 1],
                "better, equal on test": by_signs[1, 0],
                "worse on test": by_signs[1, -1],
                "equal by validation": by_signs[0, 1],
                "worse by validation": by_signs[-1, 1],
            }
    raise AssertionError("no champion among the models")


def run_of(root: Path, plan: Plan, trained: Trained, folder: Path, store: Store) -> Result:
    """The variant's MLflow run with its model, and its standing."""
    run = tracking.start_run(root, tracking.experiment(root, plan.dataset), trained.name, {"variant": trained.name})
    trained.model.save(folder / run, store.pixels(np.arange(8)))
    tracking.client(root).log_artifacts(run, str(folder / run), "model")
    tracking.log(root, run, metrics=trained.metrics)
    tracking.end_run(root, run)
    return Result(trained.name, run, trained.metrics, reused=False)


@pytest.fixture
def retrain(root: Path, plan: Plan, store: Store, tmp_path: Path) -> Any:
    """A retraining that comes to these models; the decision."""

    def decide(*trained: Trained) -> Decision:
        return register.fn(root, plan, [run_of(root, plan, one, tmp_path, store) for one in trained])

    return decide


def champion_of(root: Path, plan: Plan) -> str | None:
    aliases = tracking.client(root).get_registered_model(plan.dataset).aliases
    return str(aliases["champion"]) if "champion" in aliases else None


def test_the_first_becomes_champion(root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained]) -> None:
    """After the first retraining there is a champion, which says where it comes from; the best by validation it is,
    not the best on test."""
    decision = retrain(ranked["worse by validation"], ranked["champion"])
    assert decision == Decision(True, "the first champion", ranked["champion"].name, "1")
    version = tracking.client(root).get_model_version_by_alias(plan.dataset, "champion")
    run = tracking.client(root).get_run(version.run_id)
    assert (str(version.version), run.info.run_name, run.info.status) == ("1", ranked["champion"].name, "FINISHED")
    assert version.tags["data_md5"] == plan.data_md5
    assert version.tags["decision"] == "promoted"
    assert version.tags["test_accuracy"] == f"{ranked['champion'].metrics['test/accuracy']:.4f}"
    assert "Promoted: the first champion" in version.description


def test_of_equally_good_ones_the_surer_is_taken(root: Path, plan: Plan, retrain: Any, pool: list[Trained]) -> None:
    """Where validation accuracies are equal, the smaller validation loss decides."""
    by_accuracy: dict[float, list[Trained]] = {}
    for one in pool:
        by_accuracy.setdefault(one.metrics["val/accuracy"], []).append(one)
    equal = sorted(max(by_accuracy.values(), key=len), key=lambda one: one.metrics["val/log_loss"])
    assert len(equal) > 2
    assert retrain(equal[1], equal[0], equal[2]).variant == equal[0].name


@pytest.mark.parametrize(
    ("challenger", "told"),
    [
        ("equal by validation", "not better by validation"),
        ("worse by validation", "not better by validation"),
        ("worse on test", "worse on test"),
    ],
)
def test_a_champion_stays_unless_it_is_beaten(
    root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained], challenger: str, told: str
) -> None:
    """A challenger that is not better by validation, or worse on test, is registered with the reason, no more."""
    retrain(ranked["champion"])
    decision = retrain(ranked[challenger])
    ours, theirs = ranked[challenger].metrics, ranked["champion"].metrics
    assert not decision.promoted
    assert decision.why.startswith(told)
    assert f"validation {ours['val/accuracy']:.3f} against {theirs['val/accuracy']:.3f}" in decision.why
    assert f"test {ours['test/accuracy']:.3f} against {theirs['test/accuracy']:.3f} of version 1" in decision.why
    assert (decision.version, champion_of(root, plan)) == ("2", "1")
    version = tracking.client(root).get_model_version(plan.dataset, "2")
    assert (version.tags["decision"], version.tags["why"]) == ("not promoted", decision.why)


@pytest.mark.parametrize("challenger", ["better", "better, equal on test"])
def test_a_better_one_takes_over(
    root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained], challenger: str
) -> None:
    """A challenger that is better by validation and not worse on test becomes champion."""
    retrain(ranked["champion"])
    decision = retrain(ranked[challenger])
    assert decision.promoted, decision
    assert champion_of(root, plan) == decision.version == "2"


def test_a_champion_of_other_classes_stays(
    root: Path, plan: Plan, retrain: Any, store: Store, ranked: dict[str, Trained]
) -> None:
    """Models that share fewer than two classes cannot be compared: a person decides."""
    other = untrained(store, 0, classes=["cat", "dog", store.classes[0]])
    metrics = dict.fromkeys(ranked["better"].metrics, 0.0)
    assert retrain(replace(other, metrics=metrics)).promoted
    decision = retrain(ranked["better"])
    assert "version 1, cannot be compared: its classes are cat, dog, cloudy, today's cloudy, rain" in decision.why
    assert champion_of(root, plan) == "1"


def test_models_of_partly_other_classes_meet_on_the_common_ones(
    plan: Plan, retrain: Any, store: Store, ranked: dict[str, Trained]
) -> None:
    """A class that came or went does not end the comparison; the decision says on what it rests."""
    other = untrained(store, 0, classes=["cat", *store.classes[1:]])
    retrain(replace(other, metrics=dict.fromkeys(ranked["better"].metrics, 0.0)))
    assert f"on the common classes {', '.join(store.classes[1:])}" in retrain(ranked["better"]).why


def test_a_champion_that_computes_something_else_stays(
    root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained]
) -> None:
    """When a champion's logits on its own probe are not what they were, the code has changed under it: nothing is
    decided on such figures, and the commit to use is named."""
    from safetensors.torch import load_file, save_file

    retrain(ranked["champion"])
    client = tracking.client(root)
    run = client.get_model_version_by_alias(plan.dataset, "champion").run_id
    probe = Path(client.get_run(run).info.artifact_uri) / "model/probe.safetensors"
    remembered = load_file(probe)
    remembered["logits"] += 0.01
    save_file(remembered, probe)
    decision = retrain(ranked["better"])
    assert not decision.promoted
    assert "its logits on its own probe differ by 0.01: load it with the code of commit 0123abc" in decision.why
    assert champion_of(root, plan) == "1"


def test_a_champion_whose_files_are_gone_stays(
    root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained]
) -> None:
    """Somebody cleaned up mlruns/: the retraining says that the champion cannot be compared, and ends well."""
    retrain(ranked["champion"])
    client = tracking.client(root)
    run = client.get_model_version_by_alias(plan.dataset, "champion").run_id
    shutil.rmtree(Path(client.get_run(run).info.artifact_uri) / "model")
    decision = retrain(ranked["better"])
    assert decision.why.startswith("the champion, version 1, cannot be compared: its run ")
    assert champion_of(root, plan) == "1"


def test_never_means_never(root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained]) -> None:
    """With `policy: never`, retrainings register and people promote."""
    policy(root, "never")
    try:
        decision = retrain(ranked["champion"])
    finally:
        policy(root, "better")
    assert decision == Decision(False, "policy is 'never' in params/register.yaml", ranked["champion"].name, "1")
    assert champion_of(root, plan) is None


def test_what_stands_is_not_registered_twice(
    root: Path, plan: Plan, store: Store, tmp_path: Path, ranked: dict[str, Trained]
) -> None:
    """When the best variant was not trained again, there is no new version and the champion stays."""
    best = run_of(root, plan, ranked["champion"], tmp_path, store)
    register.fn(root, plan, [best])
    decision = register.fn(root, plan, [replace(best, reused=True)])
    assert (decision.promoted, decision.version) == (False, None)
    assert "still the best by validation, and version 1 already" in decision.why
    assert len(tracking.client(root).search_model_versions(f"name = '{plan.dataset}'")) == 1


@pytest.mark.slow
def test_anybodys_mlflow_loads_the_champion(
    root: Path, plan: Plan, retrain: Any, ranked: dict[str, Trained], tmp_path: Path
) -> None:
    """`mlflow.pyfunc.load_model` elsewhere, with pickles forbidden, classifies JPEG bytes as the model here does, with
    the code that was logged; it opens no file of its host, and tells bad images in one clean line."""
    import base64

    trained = ranked["champion"]
    retrain(trained)
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
    classes, expected = trained.model.spec.classes, trained.model.classify(photographs)
    for row, probabilities in zip(told["rows"], expected, strict=True):
        assert row["class"] == classes[int(probabilities.argmax())]
        assert row["probability"] == pytest.approx(float(probabilities.max()), abs=1e-6)
        assert [row[f"p_{label}"] for label in classes] == pytest.approx(probabilities.tolist(), abs=1e-6)
    string, no_image, empty = told["errors"]
    assert string.startswith("INVALID_PARAMETER_VALUE: ") and "image bytes are expected, not str" in string
    assert no_image.startswith("INVALID_PARAMETER_VALUE: an image cannot be used: ")
    assert empty.startswith("INVALID_PARAMETER_VALUE: an image cannot be used: ")
    assert not any("\n" in error for error in told["errors"])
