"""`weathervane data gc`: which versions of the data are needed, by whom, where their bytes are, and what may go.

`dvc gc` knows git's history, not MLflow's: it takes the data of every model whose data/raw.dvc nobody committed.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tasks.data_versions import (
    CACHE,
    cached,
    committed,
    has_bytes,
    heads,
    last_version,
    ledger_of,
    left_datasets,
    objects,
    versions,
)
from tasks.dvc_lock import raw_md5
from tasks.locks import DATA, lock
from tasks.tracking_inventory import Inventory, inventory
from tasks.tracking_read import SQLITE, local, uri
from weathervane import project
from weathervane.errors import InputError


@dataclass
class VersionUse:
    """A version of data/raw: what needs it, and where all of its bytes are.

    `git` names the work tree and the heads that track it, `commits` else a commit, `models` the model versions that
    were trained on it, `runs` what else MLflow's runs need it for; `remote` is None where DVC has no default remote.
    """

    md5: str
    holds: str = ""  # its dataset and number of images, where its ledger is in the cache
    git: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    cache: bool = False
    remote: bool | None = None

    @property
    def needed_by(self) -> list[str]:
        """All of them; what nobody needs may go."""
        return [*self.git, *self.commits, *self.models, *self.runs]


@dataclass(frozen=True)
class Census:
    """The versions on record or in the cache; the cache's objects that nothing needs, with their bytes."""

    versions: list[VersionUse]
    unneeded: dict[Path, int]

    @property
    def bereft(self) -> list[VersionUse]:
        """Models were trained on it, and its bytes are neither in the cache nor in the remote."""
        return [one for one in self.versions if one.models and not one.cache and not one.remote]

    @property
    def endangered(self) -> list[VersionUse]:
        """Models were trained on it, and a plain `dvc gc` would take the only copy: no branch or tag names it."""
        return [one for one in self.versions if one.models and one.cache and not one.remote and not one.git]


def census(root: Path, heads_only: bool = False) -> Census:
    """Who needs what; nothing is changed, and MLflow is not imported where its store is local.

    Git's history needs its versions, so that one can go back to it; with `heads_only` only its branches and tags do.

    Raises:
        InputError: a remote, a server or git's history that cannot be read: nobody knows then what is needed.
    """
    from tasks.dvc_repo import in_remote, used

    found = _needed(root, heads_only)
    held = in_remote(root, list(found))
    for one in found.values():
        one.cache, ledger = has_bytes(root, one.md5), ledger_of(root, one.md5)
        one.holds = f"{ledger.dataset}, {len(ledger.rows):,} images" if ledger else ""
        one.remote = None if held is None else one.md5 in held  # DVC pushes the list of a folder's files last
    kept = used(root).union(*(objects(root, one.md5) for one in found.values() if one.needed_by))
    unneeded = {path: path.stat().st_size for path in _cache(root) if _digest(path) not in kept}
    return Census(list(found.values()), unneeded)


def collect(root: Path, heads_only: bool = False) -> Census:
    """Remove what nobody needs from DVC's cache; the remote is left alone. Returns what was there before."""
    from tasks.dvc_repo import locked

    with lock(root, DATA), locked(root):
        found = census(root, heads_only)
        for path in sorted(found.unneeded, key=lambda path: path.suffix != ".dir"):  # a list promises its files
            path.unlink(missing_ok=True)
    return found


def _needed(root: Path, heads_only: bool) -> dict[str, VersionUse]:
    """Every version that anything knows of, by md5, with what needs it."""
    if not os.environ.get("MLFLOW_TRACKING_URI") and (root / project.SERVERS).exists():
        raise InputError(
            f"MLFLOW_TRACKING_URI is not set, and {project.SERVERS}/ is of 'weathervane up', whose models need data, "
            "too: set it to the server's address"
        )
    stores, today, own = {uri(root): inventory(root)}, raw_md5(root), root / "mlflow.db"
    if own.exists() and local(uri(root)) != own:  # of bare commands, before the team had servers
        stores[f"{SQLITE}{own}"] = inventory(root, own)
    known = [*(one.md5 for one in versions(root)), *cached(root)]
    found = {md5: VersionUse(md5) for md5 in known}
    if today:
        found[today].git.append("today's")
    for name, md5 in heads(root).items():
        found.setdefault(md5, VersionUse(md5)).git.append(name)
    for md5, commit in {} if heads_only else committed(root).items():
        if not found.setdefault(md5, VersionUse(md5)).git:
            found[md5].commits.append(commit)
    for address, stock in stores.items():
        _note_what_it_needs(root, address, stock, found)
    return found


def _note_what_it_needs(root: Path, address: str, stock: Inventory, found: dict[str, VersionUse]) -> None:
    """Add the models and runs of one of MLflow's stores to the versions that they need."""
    trained = [run for run in stock.runs.values() if "data_md5" in run.tags]
    for run in trained:
        found.setdefault(run.tags["data_md5"], VersionUse(run.tags["data_md5"]))
    for version in stock.versions:
        if trained_on := stock.runs[version.run_id].tags.get("data_md5"):
            found[trained_on].models.append(str(version))
    # The ledger of a dataset's last version decides who is in test, should the project return to it.
    for dataset in sorted({run.dataset for run in trained} | set(left_datasets(root))):
        if last := last_version(root, dataset, address):
            one, need = found.setdefault(last, VersionUse(last)), f"the last of {dataset}"
            if need not in one.runs:  # of another store
                one.runs.append(need)
    for md5 in {run.tags["data_md5"] for run in trained if run.status == "RUNNING"}:
        found[md5].runs.append("a run at work")


def _cache(root: Path) -> list[Path]:
    return [
        path for path in sorted((root / CACHE).glob("??/*")) if re.fullmatch(r"[0-9a-f]{32}(\.dir)?", _digest(path))
    ]


def _digest(path: Path) -> str:
    return path.parent.name + path.name
