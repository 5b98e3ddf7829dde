"""The gate: does the challenger replace the champion. Both are scored on the same images, today's."""

import tempfile
from pathlib import Path
from typing import Any, Literal

from tasks import tracking
from tasks.plan import Plan
from weathervane.errors import InputError
from weathervane.params import Strict

REGISTER = Path("params/register.yaml")
PROBE_TOLERANCE = 1e-3  # largest difference of a logit that other threads or another machine explain


class Register(Strict):
    """params/register.yaml."""

    policy: Literal["better", "never"]


def gate(root: Path, plan: Plan, params: Register, ours: dict[str, float], champion: Any | None) -> tuple[bool, str]:
    """Does the challenger, with metrics `ours`, become champion of the plan's dataset, and why.

    It does if it is better by validation and not worse on test, both on the same images.
    """
    if params.policy == "never":
        return False, "policy is 'never' in params/register.yaml"
    if plan.older:
        return False, "trained on another version of the data than today's"
    if champion is None:
        return True, "the first champion"
    number = champion.version
    try:
        with tempfile.TemporaryDirectory() as folder:
            val, test = _score_champion(root, plan, champion, Path(folder))
    except InputError as error:
        return False, f"the champion, version {number}, cannot be compared: {error}"
    told = f"validation {ours['val/accuracy']:.3f} against {val:.3f}"
    told += f", test {ours['test/accuracy']:.3f} against {test:.3f} of version {number}"
    if ours["val/accuracy"] <= val:
        return False, f"not better by validation: {told}"
    if ours["test/accuracy"] < test:
        return False, f"worse on test: {told}"
    return True, f"better: {told}"


def _score_champion(root: Path, plan: Plan, champion: Any, folder: Path) -> tuple[float, float]:
    """Validation and test accuracy of the champion on today's images.

    Raises:
        InputError: it has other classes, cannot be loaded, or no longer computes what it computed.
    """
    from weathervane.evaluate import predictions
    from weathervane.model import Model
    from weathervane.store import Store

    path = Path(tracking.client(root).download_artifacts(champion.run_id, "model", str(folder)))
    model, store = Model.load(path), Store(plan.prepared)
    if model.spec.classes != store.classes:
        raise InputError(f"its classes are {', '.join(model.spec.classes)}, today's {', '.join(store.classes)}")
    error = model.probe_error(path)
    if not error <= PROBE_TOLERANCE:
        commit = model.spec.about.get("git_commit", "unknown")
        raise InputError(f"its logits on its own probe differ by {error:.2g}: load it with the code of commit {commit}")
    return _accuracy(predictions(model, store, "train", fold=0)), _accuracy(predictions(model, store, "test"))


def _accuracy(table: Any) -> float:
    return float((table["predicted"] == table["label"]).mean())
