"""The gate: does the challenger replace the champion. Both are scored on the same images, today's."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks import tracking
from tasks.plan import Plan, Result
from weathervane.errors import InputError
from weathervane.params import Strict

if TYPE_CHECKING:
    import pandas as pd

    from weathervane.model import Model

REGISTER = Path("params/register.yaml")
PROBE_TOLERANCE = 1e-3  # largest difference of a logit that other threads or another machine explain


class Register(Strict):
    """params/register.yaml."""

    policy: Literal["better", "never"]


def gate(root: Path, plan: Plan, params: Register, best: Result, champion: Any | None) -> tuple[bool, str]:
    """Does the challenger become champion of the plan's dataset, and why.

    It does if it is better by validation and not worse on test, both on the same images: today's, of the
    classes that both know.
    """
    if params.policy == "never":
        return False, "policy is 'never' in params/register.yaml"
    if plan.older:
        return False, "trained on another version of the data than today's"
    if champion is None:
        return True, "the first champion"
    try:
        with tempfile.TemporaryDirectory() as folder:
            tables, classes = _both(root, plan, best, champion, Path(folder))
    except InputError as error:
        return False, f"the champion, version {champion.version}, cannot be compared: {error}"
    val, test = (tuple(_accuracy(table) for table in tables[part]) for part in ("val", "test"))
    told = f"validation {val[0]:.3f} against {val[1]:.3f}, test {test[0]:.3f} against {test[1]:.3f} of version "
    told += f"{champion.version}{f', on the common classes {classes}' if classes else ''}"
    if val[0] <= val[1]:
        return False, f"not better by validation: {told}"
    if test[0] < test[1]:
        return False, f"worse on test: {told}"
    return True, f"better: {told}"


def _both(
    root: Path, plan: Plan, best: Result, champion: Any, folder: Path
) -> tuple[dict[str, tuple["pd.DataFrame", "pd.DataFrame"]], str]:
    """Challenger's and champion's predictions of the same images, by part; the common classes where they differ.

    Raises:
        InputError: no two classes in common, or a champion that cannot be loaded or computes something else.
    """
    from weathervane.evaluate import predictions
    from weathervane.model import Model
    from weathervane.store import Store

    store, client = Store(plan.prepared), tracking.client(root)
    models = []
    for number, run in enumerate((best.run_id, champion.run_id)):
        (folder / str(number)).mkdir()
        if not client.list_artifacts(run, "model"):
            raise InputError(f"its run {run} no longer holds the model")
        path = Path(client.download_artifacts(run, "model", str(folder / str(number))))
        models.append(_checked(Model.load(path), path))
    common = sorted(set(models[0].spec.classes) & set(models[1].spec.classes))
    if len(common) < 2:
        raise InputError(f"its classes are {', '.join(models[1].spec.classes)}, today's {', '.join(store.classes)}")
    tables = {}
    for part, (split, fold) in {"val": ("train", 0), "test": ("test", None)}.items():
        pair = [predictions(model, store, split, fold) for model in models]
        tables[part] = tuple(table[table["label"].isin(common)] for table in pair)
    return tables, "" if common == store.classes else ", ".join(common)


def _checked(model: "Model", path: Path) -> "Model":
    error = model.probe_error(path)
    if not error <= PROBE_TOLERANCE:
        commit = model.spec.about.get("git_commit", "unknown")
        raise InputError(f"its logits on its own probe differ by {error:.2g}: load it with the code of commit {commit}")
    return model


def _accuracy(table: "pd.DataFrame") -> float:
    return float((table["predicted"] == table["label"]).mean())
