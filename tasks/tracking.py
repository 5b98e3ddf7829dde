"""MLflow, written to: the store of this project, its experiments and runs. Needs MLflow's client (slow to import)."""

import json
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tasks import view
from tasks.locks import STORE, lock
from tasks.tags import OLDER
from tasks.tracking_read import REFUSED, connect, local, served, uri
from tasks.unjudged import UNJUDGED
from tasks.whole import Whole
from weathervane.errors import InputError
from weathervane.params import flatten

if TYPE_CHECKING:
    from mlflow import MlflowClient

ABOUT = "Trainings of image classifiers by Weathervane on the dataset"
T = TypeVar("T")
TAG = 8000  # characters of a tag, MLflow's own limit
DESCRIPTION = 5000  # characters of a model version's that MLflow keeps
NOTE = "mlflow.note.content"  # tag that MLflow's pages show as the description, in Markdown


def client(root: Path) -> "MlflowClient":
    """A client of the project's tracking store, which is made first where it is not there yet."""
    return client_of(root, uri(root))


@cache
def client_of(root: Path, address: str) -> "MlflowClient":
    """The same, of an address; one client for all who ask."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    if database := local(address):
        make_database(root, database)
    made = connect(address)
    return made if served(address) else cast("MlflowClient", Whole(made))  # a server's transactions are its own


def or_none(ask: Callable[[], T]) -> T | None:
    """What MLflow answers; None where it says that the thing does not exist.

    Raises:
        InputError: it says that this user may not know.
    """
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if status := {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}.get(error.error_code):
            raise InputError(f"MLFLOW_TRACKING_URI: the server answers {status}: {REFUSED[status]}") from None
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def make_database(root: Path, path: Path) -> None:
    """Make MLflow's database aside and rename it: two first starts at once, or a kill, would wedge it else."""
    with lock(root, STORE):
        if path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.new")
        aside.unlink(missing_ok=True)  # of a first start that was killed
        store = SqlAlchemyStore(f"sqlite:///{aside}", str(path.parent / "mlruns"))
        store.engine.dispose()
        aside.replace(path)


def experiment(root: Path, dataset: str) -> str:
    """Id of the dataset's experiment, which carries a view of its runs.

    Raises:
        InputError: a remote server that would have every machine write artifacts to a folder of its own.
    """
    found = client(root).get_experiment_by_name(dataset)
    if found is not None and found.lifecycle_stage == "deleted":
        client(root).restore_experiment(found.experiment_id)
    database = local(uri(root))
    # MLflow's default is mlruns/ below the folder that the person happens to stand in.
    beside = str(database.parent / "mlruns" / dataset) if database else None
    made = found.experiment_id if found else _created(client(root), dataset, beside)
    current = client(root).get_experiment(made)
    location = current.artifact_location
    if served(uri(root)) and location.startswith(("/", "file:", ".")):
        raise InputError(
            f"MLFLOW_TRACKING_URI {uri(root)}: its artifact root is the local folder {location}, which other "
            "machines do not share: start the server with --serve-artifacts and --artifacts-destination"
        )
    for key, value in {NOTE: f"{ABOUT} '{dataset}'.", **view.tags()}.items():
        if key not in current.tags:  # people may change it
            client(root).set_experiment_tag(made, key, value)
    return str(made)


def _created(client: "MlflowClient", name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, location))
    except MlflowException as error:
        found = client.get_experiment_by_name(name)  # another clone's first start, meanwhile
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return str(found.experiment_id)


def start_run(
    root: Path,
    experiment_id: str,
    name: str,
    tags: dict[str, str],
    parent: str | None = None,
    started: float | None = None,
) -> str:
    """Open a run, now or as of `started` (seconds since 1970); its id."""
    if parent:
        tags = {**tags, "mlflow.parentRunId": parent}
    short = {key: str(value)[:TAG] for key, value in tags.items()}
    since = round(1000 * started) if started else None
    return str(client(root).create_run(experiment_id, since, short, name).info.run_id)


def reopen_run(root: Path, run_id: str, tags: dict[str, str]) -> str:
    """Go on with a run that was ended, with new values for its tags; its id."""
    client(root).update_run(run_id, status="RUNNING")
    log(root, run_id, tags=tags)
    for outdated in {"failure", OLDER, UNJUDGED}.intersection(client(root).get_run(run_id).data.tags) - set(tags):
        client(root).delete_tag(run_id, outdated)
    return run_id


def log(
    root: Path,
    run_id: str,
    *,
    params: dict[str, Any] | None = None,
    metrics: dict[str, float] | None = None,
    tags: dict[str, str] | None = None,
) -> None:
    """Parameters (nested ones flattened with dots), metrics and tags in one call.

    A metric that the run has already stays as it is: a step that is done again after an interruption doubles nothing.
    """
    import time

    from mlflow.entities import Metric, Param, RunTag

    now, held = int(time.time() * 1000), client(root).get_run(run_id).data.metrics if metrics else {}
    client(root).log_batch(
        run_id,
        metrics=[Metric(key, float(value), now, 0) for key, value in (metrics or {}).items() if key not in held],
        params=[Param(key, str(value)) for key, value in flatten(params or {}).items()],
        tags=[RunTag(key, value[:TAG]) for key, value in (tags or {}).items()],
    )


def log_record(
    root: Path, run_id: str, lines: list[dict[str, Any]], held: set[tuple[str, int]], step: str = "epoch"
) -> None:
    """Lines {epoch, time, metrics} of a training's record as metrics `epoch/...`, but for those (key, step) in `held`.

    What else than epochs the lines may count is named by `step`: {fold, time, metrics} become `fold/...`.

    The time is the line's own, so that a call that is repeated because its answer was lost doubles nothing. What was
    logged is added to `held`.
    """
    from mlflow.entities import Metric

    fresh = [
        Metric(f"{step}/{key}", float(value), int(line["time"] * 1000), line[step])
        for line in lines
        for key, value in line["metrics"].items()
        if (f"{step}/{key}", line[step]) not in held
    ]
    for first in range(0, len(fresh), 1000):  # MLflow takes so many at once
        block = fresh[first : first + 1000]
        client(root).log_batch(run_id, metrics=block)
        held |= {(metric.key, metric.step) for metric in block}


def log_tables(root: Path, run_id: str, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Rows under the same columns, as artifacts that MLflow shows as tables; their names end with .json.

    What `log_table` would do, but that adds the rows once more where a step is repeated.
    """
    for name, rows in tables.items():
        content = {"columns": list(rows[0]), "data": [[row.get(key) for key in rows[0]] for row in rows]}
        client(root).log_dict(run_id, content, name)
    log(root, run_id, tags=table_tags(tables))


def table_tags(names: Iterable[str]) -> dict[str, str]:
    """Tells MLflow which of a run's artifacts are tables."""
    return {"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"} for name in names])}


def recorded(root: Path, run_id: str, step: str = "epoch") -> set[tuple[str, int]]:
    """(key, step) of every `epoch/...` metric that a run holds; or `fold/...` and so on."""
    keys = [key for key in client(root).get_run(run_id).data.metrics if key.startswith(f"{step}/")]
    return {(key, point.step) for key in keys for point in client(root).get_metric_history(run_id, key)}


def end_run(root: Path, run_id: str, status: str = "FINISHED") -> None:
    """Close a run as FINISHED, FAILED or KILLED."""
    client(root).set_terminated(run_id, status)
