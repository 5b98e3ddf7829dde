"""What changed since a variant was last trained, in words: which images, which parameters, which source files."""

import json
from pathlib import Path
from typing import Any

from tasks.data import PREPARE
from tasks.data_versions import between, ledger_of
from tasks.tags import CLEANED
from tasks.tracking_read import Run
from weathervane import variant
from weathervane.errors import InputError
from weathervane.fingerprint import code
from weathervane.ledger import Ledger
from weathervane.params import flatten, load
from weathervane.prepare import Prepare
from weathervane.words import listed

LISTED = 5  # of what is listed, so many are named; the rest is counted


def prepared_by(root: Path) -> str:
    """What besides data/raw makes data/prepared what it is, as JSON: a run keeps it as the tag of this name."""
    params = load(Prepare, root / PREPARE).model_dump(mode="json")
    return json.dumps({"params": params, "code": code("weathervane.prepare")}, sort_keys=True)


def what_changed(root: Path, before: Run | None, name: str, now: dict[str, str], data_md5: str, ledger: Ledger) -> str:
    """Why the variant `name` has to be trained.

    Args:
        root: of the project.
        before: its last run.
        name: of the variant.
        now: its ingredients.
        data_md5: of data/raw as it would be trained on.
        ledger: of that version.
    """
    if before is None:
        return "never trained on this dataset"
    told = []
    for key, new in now.items():
        old = before.tags.get(f"ingredient.{key}")
        if old == new:
            continue
        if key == "data":
            told += _data(root, before, data_md5, ledger)
        elif key == "params" and old:
            told += _params(root, name, json.loads(old), json.loads(new))
        elif key == "code":
            told += _code(old, json.loads(new))
        else:
            told.append(f"{key} {old or 'not on record'} → {new}")
    if not told and CLEANED in before.tags:
        told = [f"the artifacts of its last run are deleted ({before.tags[CLEANED]})"]
    return "; ".join(dict.fromkeys(told)) or f"its last run is {before.status}"


def _data(root: Path, before: Run, data_md5: str, ledger: Ledger) -> list[str]:
    told, old = [], before.tags.get("data_md5", "")
    if old != data_md5:
        try:
            earlier = ledger_of(root, old)
        except InputError:  # damaged: whoever needs it is told
            earlier = None
        told.append(str(between(earlier, ledger)) if earlier else f"data changed ({old} → {data_md5})")
    was, now = json.loads(before.tags.get("prepared_by", "null")), json.loads(prepared_by(root))
    if was:
        if differences := _differences(was["params"], now["params"]):
            told.append(f"{PREPARE.name}: {listed(differences, LISTED)}")
        told = told or _code(json.dumps(was["code"]), now["code"])
    return told or ["the prepared data changed"]


def _params(root: Path, name: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """By where the values of now come from: the variant's file, or `--set`."""
    before, after = flatten(old), flatten(new)
    file = flatten(variant.load(root, name).model_dump(mode="json"))
    ours = {key for key in {**before, **after} if after.get(key) == file.get(key)}
    told = {}
    for origin, keys in ((f"{name}.yaml", ours), ("--set", {*before, *after} - ours)):
        chosen = ({key: value for key, value in content.items() if key in keys} for content in (before, after))
        told[origin] = _differences(*chosen)
    return [f"{origin}: {listed(differences, LISTED)}" for origin, differences in told.items() if differences]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key} {old.get(key, '–')} → {new.get(key, '–')}" for key in keys]


def _code(old: str | None, after: dict[str, str]) -> list[str]:
    try:
        before = json.loads(old or "")
    except ValueError:
        before = None
    if not isinstance(before, dict):  # a run of the time when all files had one digest
        return ["code changed"]
    became = {
        "edited": [name for name in after if name in before and before[name] != after[name]],
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
    }
    return [f"{listed(names, LISTED)} {what}" for what, names in became.items() if names]
