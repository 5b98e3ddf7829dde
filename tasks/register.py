"""The step `register`: the best variant by validation becomes the challenger and meets the champion.

The one new model version of a retraining is made here; the alias `champion` moves last, under a lock, when
everything that it will point at is on record.
"""

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import runtime

from tasks import promotion, tracking
from tasks.approval import can_ask
from tasks.gate import REGISTER, gate, note_what_was_seen
from tasks.locks import champion_lock
from tasks.plan import Plan, Result
from tasks.promotion import Move
from tasks.shown import show
from tasks.step import step
from tasks.tags import BY_HAND, COMPARED_WITH, NOT_PROMOTED, PROMOTED, WAITING
from tasks.tracking_read import runs, uri
from tasks.unjudged import NOT_COMPARED, UNJUDGED, stands
from tasks.whole import whole
from weathervane.errors import InputError
from weathervane.files import sha256
from weathervane.gate import Register, Verdict, table
from weathervane.models import family
from weathervane.params import load

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_IN_A_NAME = str.maketrans(dict.fromkeys("/:.%\"'", "-"))  # of a logged model; a variant's may have them
ABOUT = "Image classifiers by Weathervane, trained on the dataset"
HOW = "The alias champion is the one in use; 'weathervane history' says when and on what evidence it moved."


@dataclass(frozen=True)
class Decision:
    """What came of the challenger; `version` is None where nothing new was registered."""

    promoted: bool
    why: str
    variant: str
    version: str | None = None
    figures: dict[str, float] = field(default_factory=dict)  # of the comparison, and of whoever is champion now
    asks: str = ""  # the evidence, where a person is asked (policy manual)
    compared_with: str = ""  # the champion then
    unjudged: str = ""  # as the verdict's
    for_a_person: bool = False  # who decides, and cannot be asked here

    @property
    def lacks_a_champion(self) -> bool:
        """Nobody was there to be compared with, and nobody is champion now."""
        return not (self.promoted or self.compared_with)

    @property
    def word(self) -> str:
        """As on record."""
        return PROMOTED if self.promoted else WAITING if self.asks else NOT_PROMOTED


@step(name="register")
def register(root: Path, plan: Plan, best: Result) -> Decision:
    """Register the challenger, the best variant by validation, and make it champion if the gate opens.

    A version whose `decision` tag is missing was left by a killed retraining: it is decided on now. So is one whose
    decision does not stand any more, unless a person has made it champion meanwhile.
    """
    rules = load(Register, root / REGISTER)
    client = tracking.client(root)
    with champion_lock(root, plan.dataset):
        _ensure_registered_model(client, plan.dataset)
        known = _version_of(client, plan.dataset, best.run_id)
        by_hand = known is not None and BY_HAND in known.tags
        if known and "decision" in known.tags and (by_hand or stands(root, known.tags, plan.older)):
            decision = _as_decided_before(root, plan.dataset, known, best)
            return decision if by_hand else replace(decision, unjudged=known.tags.get(UNJUDGED, ""))
        now = promotion.standing(client, plan.dataset)
        version = str(known.version) if known else _new_version(root, plan, best)
        if version == now.champion:
            made = (now.elsewhere, "manual") if now.elsewhere else (now.moves[-1].why, now.moves[-1].policy)
            verdict, promoted = Verdict(True, *made), True
        else:
            verdict = gate(root, plan, rules, best, version, now)
            if now.champion and now.elsewhere:
                verdict = replace(verdict, why=f"{verdict.why}; {now.elsewhere}")
            verdict, promoted = _carry_out(client, plan.dataset, version, verdict, now)
        asked = verdict.asks and can_ask()
        word = PROMOTED if promoted else WAITING if asked else NOT_PROMOTED
        text = f"**Version {version}, {word}:** {verdict.why}.\n\n{table(verdict)}".rstrip()
        if now.champion:
            client.set_model_version_tag(plan.dataset, version, COMPARED_WITH, now.champion)
        elif known and COMPARED_WITH in known.tags:
            client.delete_model_version_tag(plan.dataset, version, COMPARED_WITH)
        _write_down(root, plan, best, version, verdict, word, text)
    compared = verdict.champion
    accuracy = best.metrics["test/accuracy"] if promoted or not compared else compared.other_accuracy
    figures = verdict.figures() | ({"champion/test_accuracy": accuracy} if promoted or compared else {})
    return Decision(
        promoted,
        verdict.why,
        best.name,
        version,
        figures,
        asks=text if asked else "",
        for_a_person=verdict.asks and not asked,
        compared_with=now.champion,
        unjudged=verdict.unjudged,
    )


def _as_decided_before(root: Path, dataset: str, known: Any, best: Result) -> Decision:
    """The decision that stands on a version; a person who was to be asked, and was not, is asked now."""
    why = f"{best.name} is still the best by validation, and version {known.version} already"
    why += f" ({known.tags['decision']})"
    if known.tags["decision"] == WAITING and can_ask() and not _asked(root, dataset, str(known.version)):
        text, other = str(known.description), known.tags.get(COMPARED_WITH, "")
        return Decision(False, why, best.name, str(known.version), asks=text, compared_with=other)
    return Decision(False, why, best.name) if best.reused else _decided(known, best, why)


def _decided(known: Any, best: Result, why: str) -> Decision:
    """The decision on a version of this very retraining, which was killed before it had closed its own run."""
    word = known.tags["decision"]
    if word == WAITING:
        return Decision(False, why, best.name)
    figures = {name: value for name, value in best.metrics.items() if name.startswith(("gate/", "test/delta_to_"))}
    if word == PROMOTED:
        figures |= {"champion/test_accuracy": best.metrics["test/accuracy"]}
    compared_with = known.tags.get(COMPARED_WITH, "")
    return Decision(word == PROMOTED, known.tags["why"], best.name, str(known.version), figures, "", compared_with)


def _asked(root: Path, dataset: str, version: str) -> bool:
    """A retraining has asked for a person's word on this version, and was not ended before it could."""
    return any(run.tags.get("model_version") == version for run in runs(uri(root), dataset, "decision", [WAITING]))


def _carry_out(
    client: "MlflowClient", name: str, version: str, verdict: Verdict, now: promotion.Standing
) -> tuple[Verdict, bool]:
    """Move the alias if the gate opened; the verdict with what was seen meanwhile, and whether it was moved."""
    client.set_model_version_tag(name, version, "why", verdict.why)
    if not verdict.opens:
        return verdict, False
    by = f"flow run {runtime.flow_run.name}" if runtime.flow_run.id else promotion.person()
    best = version if verdict.beats_best else now.best
    wanted = Move("", now.champion, version, by, verdict.why, best, verdict.policy, verdict.figures())
    try:
        seen = promotion.move(client, name, now.champion, wanted)
    except InputError as error:
        return Verdict(False, str(error), verdict.policy, verdict.look, unjudged=NOT_COMPARED), False
    return replace(verdict, why="; ".join(filter(None, (verdict.why, seen)))), True


def _write_down(root: Path, plan: Plan, best: Result, version: str, verdict: Verdict, word: str, text: str) -> None:
    """The decision on the version, on the challenger's run and in Prefect; the tag `decision` last of all.

    But for `unjudged` where that is over: a kill in between costs another decision, the other way round this one.
    """
    client = tracking.client(root)
    client.update_model_version(plan.dataset, version, _card(client, plan, best, version, text)[: tracking.DESCRIPTION])
    tracking.log(root, best.run_id, metrics=verdict.figures())
    tags = {"why": verdict.why, "policy": verdict.policy, "look": str(verdict.look)}
    tags |= {UNJUDGED: verdict.unjudged} if verdict.unjudged else {}
    for key, value in (tags | {"decision": word}).items():
        client.set_model_version_tag(plan.dataset, version, key, value)
    if not verdict.unjudged and UNJUDGED in client.get_model_version(plan.dataset, version).tags:
        client.delete_model_version_tag(plan.dataset, version, UNJUDGED)
    show("decision", plan.dataset, text, verdict.why)


def _card(client: "MlflowClient", plan: Plan, best: Result, version: str, decision: str) -> str:
    from weathervane.card import model_card

    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(best.run_id, "model/model.json", folder)
        model = json.loads(Path(path).read_text(encoding="utf-8"))
    return model_card(plan.dataset, version, model, best.metrics, synthetic=plan.synthetic, decision=decision)


def _new_version(root: Path, plan: Plan, best: Result) -> str:
    """Log the challenger's model to its run and register it, with where it comes from as tags."""
    from weathervane.store import Store

    client = tracking.client(root)
    note_what_was_seen(client, best.run_id, Store(plan.prepared))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(client.download_artifacts(best.run_id, "model", temporary))
        weights, logged = sha256(folder / "model.safetensors"), _logged(root, plan, best, folder)
    shown = {key: best.metrics[key] for key in ("val/accuracy", "test/accuracy", "test/macro_f1")}
    made = client.create_model_version(
        plan.dataset,
        logged.model_uri,
        run_id=best.run_id,
        tags={
            "variant": best.name,
            "data_md5": plan.data_md5,
            "weights_sha256": weights,
            "test_set": client.get_run(best.run_id).data.tags.get("test_set", ""),
            **{key.replace("/", "_"): f"{value:.4f}" for key, value in shown.items()},
        },
        model_id=logged.model_id,
    )
    return str((_version_of(client, plan.dataset, best.run_id) or made).version)


def _version_of(client: "MlflowClient", name: str, run_id: str) -> Any:
    """The version made of a run, or None; the first, where the client asked again because an answer was lost."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    first, *others = sorted(found, key=lambda one: int(one.version)) or [None]
    for other in others:
        if "decision" not in other.tags and "weights_sha256" in other.tags:  # not registered by a person
            client.delete_model_version(name, other.version)
    return first


def _logged(root: Path, plan: Plan, best: Result, folder: Path) -> Any:
    """What MLflow says of the pyfunc of the model in `folder`, which is logged to the challenger's run."""
    from importlib.metadata import version

    import mlflow
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    spec = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    names = ["probability", *(f"p_{label}" for label in spec["classes"])]
    outputs = [ColSpec(DataType.string, "class"), *(ColSpec(DataType.double, name) for name in names)]
    needed = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch")
    needed += getattr(family(spec["family"]), "REQUIRES", ())
    with warnings.catch_warnings(), _set_back("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        mlflow.set_tracking_uri(uri(root))
        mlflow.set_experiment(experiment_id=tracking.experiment(root, plan.dataset))  # or the model is of "Default"
        warnings.filterwarnings("ignore", ".*An input example was not provided")  # the signature says it all
        # Not pyfunc.log_model in a reopened run: an error or a kill would leave it failed, and to be trained anew.
        return whole(
            Model.log,
            artifact_path=None,
            name=best.name.translate(NOT_IN_A_NAME),
            flavor=mlflow.pyfunc,
            run_id=best.run_id,
            python_model=str(Path(__file__).with_name("served.py")),
            code_paths=[str(Path(__file__).parents[1] / "weathervane")],
            artifacts={"model": str(folder)},
            signature=ModelSignature(Schema([ColSpec(DataType.binary, "image")]), Schema(outputs)),
            pip_requirements=[f"{name}=={version(name)}" for name in needed],
        )


@contextmanager
def _set_back(*names: str) -> Iterator[None]:
    """Variables are afterwards what they were: in a notebook the next retraining may be of another clone."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _ensure_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=f"{ABOUT} '{name}'. {HOW}")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
