"""Lineage, both ways: what a model was made of, and which models have met an image or a version of the data.

The ledger of a model's data version says who was in which part, so DVC's cache has to hold that version. A local
mlflow.db is read without importing MLflow.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.data_versions import has_bytes, ledger_of, versions
from tasks.git import has_commit
from tasks.promotion import CHAMPION
from tasks.tags import BY_HAND
from tasks.tracking_inventory import Inventory, Registered, RunRecord, inventory
from tasks.tracking_read import moment
from weathervane.errors import InputError
from weathervane.files import sha256
from weathervane.fingerprint import NUMERIC
from weathervane.folds import VALIDATION
from weathervane.ledger import Ledger, Row
from weathervane.params import flatten
from weathervane.words import by_class


@dataclass(frozen=True)
class Use:
    """A trained model, and what the thing asked for was to it; `model` is a version or, if none was made, a run."""

    model: str
    variant: str
    ended: int  # ms since 1970
    data_md5: str
    how: str


@dataclass(frozen=True)
class Users:
    """What was asked for, the models that met it, newest first, and models' data that could not be looked into."""

    what: str
    uses: list[Use]
    unread: list[str]


def names_a_model(text: str) -> bool:
    """True for models:/weather/7, models:/weather@champion and 7; longer numbers are beginnings of a hash."""
    return text.startswith("models:/") or re.fullmatch(r"[0-9]{1,5}", text) is not None


def find(stock: Inventory, text: str, dataset: str) -> Registered:
    """The version that `text` names; a bare number is one of the dataset's.

    Raises:
        InputError: there is none; what there is instead is named.
    """
    named = re.fullmatch(r"models:/([^/@]+)(?:/([0-9]+)|@(.+))", text)
    name, number, alias = named.groups() if named else (dataset, text, None)
    if not named and not text.isdigit():
        raise InputError(f"{text}: the forms are models:/{dataset}/7, models:/{dataset}@champion, and 7")
    there = [one for one in stock.versions if one.name == name]
    for one in there:
        if one.version == number or alias in one.aliases:
            return one
    known = ", ".join(" ".join([one.version, *(f"@{alias}" for alias in one.aliases)]) for one in there)
    lacking = f"no @{alias}, but " if alias else ""
    way_out = ": name one of them, or make it champion ('weathervane promote')" if alias == CHAMPION else ""
    raise InputError(f"{text}: {name} has {f'{lacking}the versions {known}{way_out}' if known else 'no versions'}")


def origin(root: Path, stock: Inventory, version: Registered) -> dict[str, str]:
    """Where a version comes from, in words, by what it is called."""
    run = stock.runs[version.run_id]
    parent_id = run.tags.get("mlflow.parentRunId", "")
    parent = stock.runs[parent_id].tags if parent_id in stock.runs else {}
    tags = {"machine": "unknown", **parent, **run.tags}
    data_md5, decision = tags.get("data_md5", "unknown"), version.tags.get("decision", "none on record")
    libraries = [f"{name} {tags.get(f'ingredient.{name}', 'unknown')}" for name in NUMERIC]
    device = f"{tags.get('device', 'unknown')}, {tags.get('threads', 'unknown')} threads"
    return {
        "model": f"{version}, variant {tags.get('variant', 'unknown')}, registered {moment(version.created)} UTC",
        "decision": ": ".join(filter(None, (decision, version.tags.get("why")))),
        **({"by hand": version.tags[BY_HAND]} if BY_HAND in version.tags else {}),
        "data": f"{data_md5}, {_content(ledger_of(root, data_md5))}",
        "its bytes": _whereabouts(root, data_md5),
        "code": _code(root, tags),
        "seed": tags.get("seed", "unknown"),
        "params": _listed(flatten(json.loads(tags.get("ingredient.params", "{}")))) or "unknown",
        "made with": f"{', '.join(libraries)}; {device}; machine {tags['machine']}",
        "weights": f"sha256 {version.tags.get('weights_sha256', 'unknown')}",
        "flow run": _both(tags.get("prefect_flow_run_id"), tags.get("prefect_flow_run")),
        "parent run": _both(parent_id, parent.get("mlflow.runName")),
        "child run": _both(version.run_id, run.tags.get("mlflow.runName")),
    }


def users(root: Path, text: str) -> Users:
    """Which models met the version of the data, or the image, that `text` names: an md5, a sha256, the beginning of
    one (4 digits at least), or the path of any file with the image's bytes.

    Raises:
        InputError: nothing on record is called so, or more than one thing is.
    """
    stock = inventory(root)
    trained = [run for run in stock.runs.values() if run.tags["kind"] == "variant" and run.status == "FINISHED"]
    known = dict.fromkeys([*(one.md5 for one in versions(root)), *(run.tags["data_md5"] for run in trained)])
    try:
        digest = sha256(Path(text)) if Path(text).is_file() else text
    except OSError as error:
        raise InputError(f"{text}: not readable: {error.strerror}") from None
    if not re.fullmatch(r"[0-9a-f]{4,64}(\.dir)?", digest):
        raise InputError(f"{text}: no such file, and no model (models:/NAME/7, models:/NAME@champion), md5 or sha256")
    if data := _one(text, (md5 for md5 in known if md5.startswith(digest))):
        ledger = ledger_of(root, data)
        what, how, unread = f"data {data}, {_content(ledger)}", {data: _parts(ledger)}, list[str]()
    else:
        what, how, unread = _of_image(root, text, digest, list(known), {run.tags["data_md5"] for run in trained})
    uses = [_use(stock, run, how[run.tags["data_md5"]]) for run in trained if how.get(run.tags["data_md5"])]
    return Users(what, sorted(uses, key=lambda use: use.ended, reverse=True), unread)


def _use(stock: Inventory, run: RunRecord, how: str) -> Use:
    made = ", ".join(str(one) for one in stock.versions if one.run_id == run.run_id)
    return Use(made or f"run {run.run_id}", run.tags["variant"], run.ended, run.tags["data_md5"], how)


def _one(text: str, close: Iterable[str]) -> str | None:
    different = sorted(set(close))
    if len(different) > 1:
        raise InputError(f"{text}: matches {len(different)} ({', '.join(different[:3])}, ...): give more digits")
    return different[0] if different else None


def _of_image(
    root: Path, text: str, digest: str, known: list[str], trained: set[str]
) -> tuple[str, dict[str, str], list[str]]:
    """An image in words, by the md5 of the data version what it was to a model that was trained on that, and the
    versions that models were trained on and that are not here.

    One version's ledger is in memory at a time: nights make hundreds.
    """
    close, there = list[Row](), list[str]()
    for md5 in known:
        if ledger := ledger_of(root, md5):
            there.append(md5)
            close += [row for row in ledger.rows if row.sha256.startswith(digest)]
    unread = sorted(trained - set(there))
    image = _one(text, (row.sha256 for row in close))
    if image is None:
        rest = f"; {len(unread)} more that models had are not in DVC's cache: 'dvc fetch --all-commits'" * bool(unread)
        raise InputError(
            f"{text}: none of {len(there)} versions of the data is called so or holds such an image{rest}; what was "
            "quarantined stands in data/raw/quarantine.csv"
        )
    groups = {row.group for row in close}
    ledgers = ((md5, ledger_of(root, md5)) for md5 in there)
    met = {md5: [row for row in ledger.rows if row.group in groups] for md5, ledger in ledgers if ledger}
    members = {row.sha256 for rows in met.values() for row in rows}
    near = f"near-duplicate group {', '.join(sorted(groups))} of {len(members)} images"
    what = f"image {image}, {close[-1].label}, {close[-1].name!r} from {close[-1].source}"
    what += f", {near if len(members) > 1 else 'no near-duplicates'}"
    return what, {md5: _met(rows, image) for md5, rows in met.items()}, unread


def _met(rows: list[Row], image: str) -> str:
    """What an image was to a model trained on data that holds these rows of its groups; "" if there is none."""
    itself = [_part(row) for row in rows if row.sha256 == image]
    near = Counter(_part(row) for row in rows if row.sha256 != image)
    others = ", ".join(f"{count} {part}" for part, count in near.items())
    return "; ".join([*itself, *([f"near-duplicates: {others}"] if near else [])])


def _parts(ledger: Ledger | None) -> str:
    counts = Counter(map(_part, ledger.rows if ledger else ()))
    told = ", ".join(f"{counts[part]} {part}" for part in ("trained on", "validated on", "tested on") if counts[part])
    return told or "in parts that are unknown here"


def _part(row: Row) -> str:
    if row.split == "train":
        return "validated on" if row.fold == VALIDATION else "trained on"
    return {"test": "tested on", "excluded": "left out"}[row.split]


def _content(ledger: Ledger | None) -> str:
    if ledger is None:
        return "what is in it is unknown here"
    return f"{ledger.dataset}, {len(ledger.rows):,} images ({by_class(ledger.counts())})"


def _whereabouts(root: Path, data_md5: str) -> str:
    """Where all bytes of a version of the data are."""
    from tasks.dvc_repo import in_remote

    places = ["in DVC's cache here"] if has_bytes(root, data_md5) else []
    try:
        held = in_remote(root, [data_md5])
    except InputError as error:
        return "; ".join([*places, str(error)])
    if held:
        places.append("in DVC's default remote")
    lacking = "DVC's cache here has not all of them, and " + (
        "no default remote is set" if held is None else "the default remote has not"
    )
    return ", ".join(places) or f"gone: {lacking}"


def _code(root: Path, tags: dict[str, str]) -> str:
    commit = tags.get("git_commit", "none")
    if commit == "none":
        return "trained outside of git"
    dirty = {"true": "with uncommitted changes", "false": "no uncommitted change of code or params"}.get(
        tags.get("git_dirty", ""), ""
    )
    here = "in this clone" if has_commit(root, commit) else "not in this clone ('git fetch --all' may bring it)"
    return ", ".join(filter(None, (f"commit {commit}", dirty, here)))


def _listed(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _both(identifier: str | None, name: str | None) -> str:
    return (f"{identifier} ({name})" if name else identifier) if identifier else "none"
