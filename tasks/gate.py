"""The gate: does the challenger replace the champion. Both are scored now, on the same images, today's."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import tracking
from tasks.answering import checked, fetched
from tasks.plan import Plan, Result
from tasks.promotion import Standing
from tasks.unjudged import NEVER, NOT_COMPARED, OLDER_DATA
from weathervane.errors import InputError
from weathervane.gate import Register, Verdict, beyond, compare, doubted, judge, leaked

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from weathervane.model import Model
    from weathervane.store import Store

REGISTER = Path("params/register.yaml")
TRAINED = "trained.parquet"  # sha256 and group of every image that a version's model has seen
SIZES = 50  # of one test set that grows, told apart
LOOKS = "looks"  # tag of the registered model: number of test images → how many challengers met them


@dataclass(frozen=True)
class Contestant:
    """A version's model, what it was trained on, and what it says of today's test images."""

    model: "Model"
    trained: "pd.DataFrame"
    predictions: "pd.DataFrame"


def gate(root: Path, plan: Plan, rules: Register, best: Result, version: str, now: Standing) -> Verdict:
    """Whether `version`, the challenger that `best` came to, becomes champion of the plan's dataset, and why."""
    if plan.older:
        why = "trained on another version of the data than today's"
        return Verdict(False, why, rules.policy, unjudged=OLDER_DATA)
    if rules.policy == "never":
        return Verdict(False, "policy is 'never' in params/register.yaml", "never", unjudged=NEVER)
    if exceeded := beyond(best.metrics, rules):
        return Verdict(False, f"beyond the limits of params/register.yaml: {'; '.join(exceeded)}", rules.policy)
    if not now.champion:
        if now.elsewhere:
            why = f"{now.elsewhere}; 'weathervane promote VERSION --why ...' makes one"
            return Verdict(False, why, rules.policy, unjudged=NOT_COMPARED)
        if rules.policy == "manual":
            return Verdict(False, "no champion yet: a person decides (policy manual)", "manual", asks=True)
        return Verdict(True, f"the first champion{_no_skill(plan, best)}", "first")
    try:
        return _compared(root, plan, rules, best, version, now)
    except InputError as error:
        why = f"not compared with the champion, version {now.champion}: {error}"
        return Verdict(False, why, rules.policy, unjudged=NOT_COMPARED)


def _no_skill(plan: Plan, best: Result) -> str:
    """What to say of a model that is no better than one that has seen nothing."""
    from weathervane.store import Store

    store = Store(plan.prepared)
    label, count = Counter(store.manifest["label"][store.part("test")].tolist()).most_common(1)[0]
    share = count / len(store.part("test"))
    return "" if best.metrics["test/accuracy"] > share else f"; no better than always saying '{label}' ({share:.3f})"


def note_what_was_seen(client: "MlflowClient", run: str, store: "Store") -> None:
    """Put on the run's record which images its model has seen: those of train, validation included."""
    import pandas as pd

    rows = store.part("train")
    seen = pd.DataFrame({name: store.manifest[name][rows] for name in ("sha256", "group")})
    with tempfile.TemporaryDirectory() as folder:
        seen.to_parquet(Path(folder) / TRAINED, index=False)
        client.log_artifact(run, str(Path(folder) / TRAINED), "data")


def _compared(root: Path, plan: Plan, rules: Register, challenger: Result, version: str, now: Standing) -> Verdict:
    """The verdict of the paired tests, unless many more labels are doubted than were.

    Raises:
        InputError: two models that cannot be compared, or one that computes something else than it did.
    """
    import pandas as pd

    from weathervane.slices import slices
    from weathervane.store import Store

    client, store = tracking.client(root), Store(plan.prepared)
    today = pd.DataFrame({name: store.manifest[name] for name in ("sha256", "group")})
    known = {one: _registered(client, plan.dataset, one) for one in (version, now.champion, now.best)}
    runs = {one: str(registered.run_id) for one, registered in known.items()}
    then = client.get_run(runs[now.champion]).data.metrics
    if why := doubted(challenger.metrics, then, now.champion, rules):
        return Verdict(False, why, rules.policy)
    with tempfile.TemporaryDirectory() as folder:
        there = {one: _contestant(client, registered, store, Path(folder) / one) for one, registered in known.items()}
    ours = there.pop(version)
    weights = {known[one].tags.get("weights_sha256", one) for one in (version, now.champion)}
    if len(weights) == 1 and ours.predictions.equals(there[now.champion].predictions):  # spends no look
        return Verdict(False, f"it is the champion, version {now.champion}, made again", rules.policy)
    _draw(client, runs[version], ours, there[now.champion], (version, now.champion), store)
    inside = slices(store)
    found = {
        one: compare(
            ours.predictions,
            theirs.predictions,
            one,
            (ours.model.spec.classes, theirs.model.spec.classes),
            leaked(today, ours.trained, theirs.trained),
            inside,
            rules,
        )
        for one, theirs in there.items()
    }
    policy: str = rules.policy
    if policy == "by_change":
        policy = "not_worse" if _only_data_changed(client, runs[version], runs[now.champion]) else "better"
    enough = min(one.images for one in found.values()) >= rules.min_images  # fewer can decide nothing: no look is spent
    look = _count_look(client, plan.dataset, len(store.part("test"))) if enough else 0
    best = found[now.best] if now.best != now.champion else None
    return judge(version, policy, found[now.champion], best, look, rules)


def _draw(
    client: "MlflowClient", run: str, ours: Contestant, champion: Contestant, versions: tuple[str, str], store: "Store"
) -> None:
    """The test images on which the two differ, as a picture on the challenger's run."""
    from weathervane.pictures.photographs import disagreements

    names = (f"version {versions[0]}", f"champion {versions[1]}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disagreements.png"
        disagreements(ours.predictions, champion.predictions, store, store.classes, names, path)
        client.log_artifact(run, str(path))


def _registered(client: "MlflowClient", name: str, version: str) -> "ModelVersion":
    found = tracking.or_none(lambda: client.get_model_version(name, version))
    if found is None:
        raise InputError(
            f"version {version}, the best champion so far, was deleted: 'weathervane promote VERSION --why ...' "
            "says which one is to be compared with instead; that may be the present champion"
        )
    if not found.run_id:
        raise InputError(
            f"version {version} was registered without a run, so nobody knows what it was trained on: 'weathervane "
            "promote VERSION --why ...' makes one of ours champion"
        )
    return found


def _contestant(client: "MlflowClient", registered: "ModelVersion", store: "Store", folder: Path) -> Contestant:
    import pandas as pd

    from weathervane.evaluate import predictions

    version, run = str(registered.version), str(registered.run_id)
    folder.mkdir()
    path = fetched(client, run, version, folder)
    if not any(file.path == f"data/{TRAINED}" for file in client.list_artifacts(run, "data")):
        raise InputError(f"run {run} of version {version} does not say what it was trained on (data/{TRAINED})")
    model = checked(path, version, registered.tags)
    if model.spec.size > store.size:
        size = model.spec.size
        raise InputError(f"version {version} needs images of {size} pixels: set image_size in params/prepare.yaml")
    trained = pd.read_parquet(client.download_artifacts(run, f"data/{TRAINED}", str(folder)))
    return Contestant(model, trained, predictions(model, store, "test"))


def _only_data_changed(client: "MlflowClient", run: str, other: str) -> bool:
    """True if two models were trained by equal code with equal parameters, on different data."""

    def ingredients(one: str) -> dict[str, str]:
        tags: dict[str, Any] = client.get_run(one).data.tags
        return {key: value for key, value in tags.items() if key.startswith("ingredient.")}

    ours, theirs = ingredients(run), ingredients(other)
    return {key for key in ours | theirs if ours.get(key) != theirs.get(key)} == {"ingredient.data"}


def _count_look(client: "MlflowClient", name: str, images: int) -> int:
    """How many challengers met this test set, this one included; counted before the answer is known.

    Splits are append-only, so a test set contains the earlier ones: it counts as another once more than half of
    its images are new.
    """
    counted = json.loads(client.get_registered_model(name).tags.get(LOOKS, "{}"))
    same = {size: number for size, number in counted.items() if 2 * int(size) >= images}
    same[str(images)] = same.get(str(images), 0) + 1
    while len(same) > SIZES:  # MLflow's databases hold 5,000 characters; counted longer is counted stricter
        oldest, next_one, *_ = sorted(same, key=int)
        same[next_one] += same.pop(oldest)
    client.set_registered_model_tag(name, LOOKS, json.dumps(same))
    return sum(same.values())
