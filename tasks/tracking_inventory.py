"""What MLflow holds of this project: its runs, the models that they logged, and the versions registered of them.

A local mlflow.db is read without importing MLflow, as in `tasks.tracking_read`; a test holds both ways to one answer.
"""

import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.promotion import PREFIX
from tasks.tags import KINDS, MONITORING
from tasks.tracking_read import local, opened, pages, uri

OURS = (*KINDS.keys(), *KINDS.values(), MONITORING)


@dataclass(frozen=True)
class RunRecord:
    """A run of ours, deleted ones included; `ended` in ms since 1970 (of one that was never ended: its start).

    `artifacts` is its artifact location, `models` that of each model that it logged, by model id.
    """

    run_id: str
    dataset: str
    status: str
    ended: int
    deleted: bool
    artifacts: str
    tags: dict[str, str]
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    """A version of a registered model, whoever registered it, of a run of ours; `created` in ms since 1970.

    `moved` is true if a recorded move of the alias `champion` names it: it is one, or was.
    """

    name: str
    version: str
    run_id: str
    source: str
    created: int
    tags: dict[str, str]
    aliases: list[str]
    moved: bool

    def __str__(self) -> str:
        return " ".join([self.name, self.version, *(f"@{alias}" for alias in self.aliases)])


@dataclass(frozen=True)
class Inventory:
    """Runs by id, oldest first, and the versions of their models."""

    runs: dict[str, RunRecord]
    versions: list[Registered]


Found = tuple[list[RunRecord], list[Registered], list[Any]]  # and of each logged model: id, run, artifact location


def inventory(root: Path, database: Path | None = None) -> Inventory:
    """Every run with our tag `kind`, in every dataset's experiment; empty where nothing was tracked yet.

    Of the project's store, or of this database.

    Raises:
        InputError: a database that is none of MLflow's, a server that does not answer.
    """
    if not os.environ.get("MLFLOW_REGISTRY_URI"):  # versions are in the tracking store then
        database = database or local(uri(root))
    runs, versions, models = _from_sqlite(database) if database else _by_client(root)
    logged: dict[str, dict[str, str]] = defaultdict(dict)
    for model, run_id, location in models:
        logged[run_id][model] = location
    held = {run.run_id: replace(run, models=logged[run.run_id]) for run in sorted(runs, key=lambda run: run.ended)}
    owner = {f"models:/{model}": run_id for model, run_id, _ in models}
    versions = [replace(version, run_id=version.run_id or owner.get(version.source, "")) for version in versions]
    ours = [version for version in versions if version.run_id in held]
    return Inventory(held, sorted(ours, key=lambda version: (version.name, int(version.version))))


def _from_sqlite(path: Path) -> Found:
    if not path.is_file():
        return [], [], []
    with opened(path) as database:
        return _select(database)


def _select(database: sqlite3.Connection) -> Found:
    ours = f"SELECT run_uuid FROM tags WHERE key = 'kind' AND value IN {OURS}"
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for run_id, key, value in database.execute(f"SELECT run_uuid, key, value FROM tags WHERE run_uuid IN ({ours})"):
        tags[run_id][key] = value
    about: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for name, version, key, value in database.execute("SELECT name, version, key, value FROM model_version_tags"):
        about[name, version][key] = value
    aliases: dict[tuple[str, int], list[str]] = defaultdict(list)
    select = "SELECT name, version, alias FROM registered_model_aliases ORDER BY alias"
    for name, version, alias in database.execute(select):
        aliases[name, version].append(alias)
    moved = _moved(database.execute("SELECT name, key, value FROM registered_model_tags"))
    runs = database.execute(
        "SELECT r.run_uuid, e.name, r.status, coalesce(r.end_time, r.start_time), r.lifecycle_stage, r.artifact_uri"
        " FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id"
        f" WHERE e.lifecycle_stage = 'active' AND r.run_uuid IN ({ours})"
    )
    versions = database.execute(
        "SELECT name, version, run_id, source, creation_time FROM model_versions"
        " WHERE current_stage != 'Deleted_Internal'"
    )
    models = database.execute(
        "SELECT model_id, source_run_id, artifact_location FROM logged_models WHERE lifecycle_stage = 'active'"
    )
    return (
        [
            RunRecord(run_id, name, status, ended, stage == "deleted", where, tags[run_id])
            for run_id, name, status, ended, stage, where in runs
        ],
        [
            Registered(
                name,
                str(number),
                run_id,
                source,
                created,
                about[name, number],
                aliases[name, number],
                (name, str(number)) in moved,
            )
            for name, number, run_id, source, created in versions
        ],
        models.fetchall(),
    )


def _by_client(root: Path) -> Found:
    from mlflow.entities import ViewType

    client = tracking.client(root)
    names = {one.experiment_id: one.name for one in pages(client.search_experiments)}
    runs = [
        run
        for experiment in names
        for kind in OURS
        for run in pages(client.search_runs, [experiment], f"tags.kind = '{kind}'", run_view_type=ViewType.ALL)
    ]
    ours = {run.info.run_id for run in runs}
    logged = (model for one in names for model in pages(client.search_logged_models, experiment_ids=[one]))
    models = [model for model in logged if model.source_run_id in ours]  # some of "Default", of before
    registered = list(pages(client.search_registered_models))
    aliases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for model in registered:
        for alias, version in sorted(model.aliases.items()):
            aliases[model.name, str(version)].append(alias)
    moved = _moved((model.name, key, text) for model in registered for key, text in model.tags.items())
    versions = [(v, (v.name, str(v.version))) for v in pages(client.search_model_versions)]
    return (
        [
            RunRecord(
                run.info.run_id,
                names[run.info.experiment_id],
                run.info.status,
                run.info.end_time or run.info.start_time,
                run.info.lifecycle_stage == "deleted",
                run.info.artifact_uri,
                run.data.tags,
            )
            for run in runs
        ],
        [
            Registered(*which, v.run_id, v.source, v.creation_timestamp, v.tags, aliases[which], which in moved)
            for v, which in versions
        ],
        [(model.model_id, model.source_run_id, model.artifact_location) for model in models],
    )


def _moved(tags: Iterable[tuple[str, str, str]]) -> set[tuple[str, str]]:
    """Name and version of all that were champion, or were to be, from (name, key, value) of registered models' tags."""
    moves = ((name, text) for name, key, text in tags if key.startswith(PREFIX))
    return {(name, version) for name, text in moves for version in re.findall(r'"(?:start|to|best)": "(\d+)"', text)}
