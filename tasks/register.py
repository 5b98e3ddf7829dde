"""The step `register`: the best variant by validation becomes the challenger and meets the champion.

The one new model version of a retraining is made here; the alias `champion` moves last, under a lock, when
everything that it will point at is on record.
"""

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tracking
from tasks.gate import REGISTER, Register, gate
from tasks.plan import Plan, Result
from tasks.tracking_read import uri
from weathervane import project
from weathervane.params import load


@dataclass(frozen=True)
class Decision:
    """What came of the challenger; `version` is None where nothing new was registered."""

    promoted: bool
    why: str
    variant: str
    version: str | None = None


@task(name="register", cache_policy=NO_CACHE)
def register(root: Path, plan: Plan, results: list[Result]) -> Decision:
    """Register the best variant by validation, and make it champion if the gate opens."""
    params = load(Register, root / REGISTER)
    best = max(results, key=lambda result: (result.metrics["val/accuracy"], -result.metrics["val/log_loss"]))
    client = tracking.client(root)
    (root / project.LOCKS).mkdir(parents=True, exist_ok=True)
    with FileLock(root / project.LOCKS / f"champion-{plan.dataset}.lock"):
        if best.reused and (known := client.search_model_versions(f"run_id = '{best.run_id}'")):
            why = f"{best.name} is still the best by validation, and version {known[0].version} already"
            return Decision(False, why, best.name)
        champion = _champion(client, plan.dataset)
        promoted, why = gate(root, plan, params, best, champion)
        version = _new_version(root, plan, best, promoted, why)
        if promoted:
            client.set_registered_model_alias(plan.dataset, "champion", version)
    return Decision(promoted, why, best.name, version)


def _champion(client: Any, name: str) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, "champion")
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _new_version(root: Path, plan: Plan, best: Result, promoted: bool, why: str) -> str:
    """Log the pyfunc to the challenger's run and register it, with where it comes from as tags."""
    from importlib.metadata import version

    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    client = tracking.client(root)
    with tempfile.TemporaryDirectory() as temporary:
        folder = client.download_artifacts(best.run_id, "model", temporary)
        classes = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))["classes"]
        names = ["probability", *(f"p_{label}" for label in classes)]
        outputs = [ColSpec(DataType.string, "class"), *(ColSpec(DataType.double, name) for name in names)]
        package = Path(__file__).parents[1] / "weathervane"
        mlflow.set_tracking_uri(uri(root))
        with mlflow.start_run(run_id=best.run_id), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*An input example was not provided")  # the signature says it all
            logged = mlflow.pyfunc.log_model(
                name="champion-candidate",
                python_model=str(Path(__file__).with_name("served.py")),
                code_paths=[str(package)],
                artifacts={"model": folder},
                signature=ModelSignature(Schema([ColSpec(DataType.binary, "image")]), Schema(outputs)),
                pip_requirements=[
                    f"{name}=={version(name)}"
                    for name in ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch")
                ],
            )
    _ensure_registered_model(client, plan.dataset)
    shown = {key: best.metrics[key] for key in ("val/accuracy", "test/accuracy", "test/macro_f1")}
    made = client.create_model_version(
        plan.dataset,
        logged.model_uri,
        run_id=best.run_id,
        tags={
            "variant": best.name,
            "data_md5": plan.data_md5,
            "decision": "promoted" if promoted else "not promoted",
            "why": why,
            **{key.replace("/", "_"): f"{value:.4f}" for key, value in shown.items()},
        },
        description=f"{best.name}, trained on {plan.dataset} {plan.data_md5}. "
        f"{'Promoted' if promoted else 'Not promoted'}: {why}.",
        model_id=logged.model_id,
    )
    return str(made.version)


def _ensure_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
