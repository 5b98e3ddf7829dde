"""Which version is champion, and how it came to be: the aliases of a registered model and the record of their moves.

Everything here is called under `tasks.locks.champion_lock`. A move is written down before the alias moves and marked as
done afterwards, so a killed one is seen for what it is; one that was made elsewhere (by hand in MLflow's pages, from
another host) leaves a gap in the record and is told.
"""

import getpass
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks import tracking
from tasks.tags import BY_HAND
from weathervane.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, PREVIOUS = "champion", "previous"
PREFIX = "move."
WHY = 2000  # characters: a tag of a registered model holds 5,000


@dataclass(frozen=True)
class Move:
    """The alias `champion` went from version `start` ("" for none) to version `to`."""

    when: str  # UTC
    start: str
    to: str
    by: str  # a flow run or a person
    why: str
    best: str  # the best champion so far, after this move: what nothing may be worse than
    policy: str  # what it was let in by: first, better, not_worse, promote, rollback
    evidence: dict[str, float] = field(default_factory=dict)
    done: bool = False
    key: str = ""  # of the tag that holds it; in the order of the moves


@dataclass(frozen=True)
class Standing:
    """What MLflow says now, and what the record says."""

    champion: str  # "" for none
    previous: str
    best: str
    moves: list[Move]
    elsewhere: str  # in words, if the champion is another than the record says; "" if not


def standing(client: "MlflowClient", name: str) -> Standing:
    """Read aliases and record, in one request, and finish what a killed move left unfinished.

    Raises:
        InputError: there is no such registered model.
    """
    aliases, moves = _read(client, name)
    champion = aliases.get(CHAMPION, "")
    if moves and not moves[-1].done and champion == moves[-1].to:
        _finish(client, name, moves[-1])
        aliases, moves = _read(client, name)
    done = [move for move in moves if move.done]
    last = done[-1] if done else None
    elsewhere = ""
    if champion != (last.to if last else ""):
        now = f"version {champion} is champion" if champion else "there is no champion"
        then = f"the last recorded move led to version {last.to}" if last else "no move is on record"
        elsewhere = f"{now}, but {then}: the alias was moved elsewhere"
    # Whoever moved it by hand has decided what the best one is, and has left the alias `previous` as it was.
    best = champion if elsewhere or last is None else last.best
    previous = last.to if elsewhere and last else aliases.get(PREVIOUS, "")
    return Standing(champion, previous, best, moves, elsewhere)


def move(client: "MlflowClient", name: str, expected: str, wanted: Move) -> str:
    """Make version `wanted.to` champion if `expected` still is; words about what was seen elsewhere, or "".

    Raises:
        InputError: the champion is another by now; nothing has been moved.
    """
    # Numbered, not dated: clocks go back. Two hosts at once take the same number, and both records stay.
    number = 1 + max((int(one.key.split(".")[1]) for one in _read(client, name)[1]), default=0)
    key = f"{PREFIX}{number:06}.{secrets.token_hex(3)}"
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    made = replace(wanted, when=now, start=expected, why=wanted.why[:WHY], key=key)
    _write(client, name, made)
    found = _read(client, name)[0].get(CHAMPION, "")
    if found != expected:
        client.delete_registered_model_tag(name, key)
        raise InputError(
            f"the champion of {name} was moved elsewhere meanwhile, from {_called(expected)} to {_called(found)}: "
            "nothing was moved here; decide again"
        )
    client.set_registered_model_alias(name, CHAMPION, made.to)
    _finish(client, name, made)
    found = _read(client, name)[0].get(CHAMPION, "")
    return "" if found == made.to else f"moved on elsewhere at once, to {_called(found)}"


def promote(client: "MlflowClient", name: str, version: str, why: str, by: str) -> Move:
    """A person's decision: `version` becomes champion, and the best one so far; a champion that was not, too.

    Raises:
        InputError: there is no such version, its files are gone, or it is champion already.
    """
    return _by_hand(client, name, standing(client, name), version, "promote", why, by)


def rollback(client: "MlflowClient", name: str, why: str, by: str) -> Move:
    """The version that was champion before becomes champion again; a second rollback takes the first one back.

    Raises:
        InputError: there is none, or its files are gone.
    """
    now = standing(client, name)
    if not now.previous:
        raise InputError(f"{name} has had one champion at most: there is nothing to roll back to")
    return _by_hand(client, name, now, now.previous, "rollback", why, by)


def person() -> str:
    """Who is at the keyboard, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that has no name
        return f"user {os.getuid()}"


def history(standing: Standing) -> list[Move | str]:
    """The moves, oldest first, with a line of words wherever something happened that they do not tell."""
    told: list[Move | str] = []
    at = ""
    for entry in standing.moves:
        if not entry.done:
            told.append(f"{entry.when}  {_called(entry.start)} → {_called(entry.to)} was begun and not carried out")
            continue
        if entry.start != at:
            told.append(f"moved elsewhere before {entry.when}: {_called(at)} → {_called(entry.start)}")
        told.append(entry)
        at = entry.to
    return [*told, standing.elsewhere] if standing.elsewhere else told


def _by_hand(client: "MlflowClient", name: str, now: Standing, version: str, policy: str, why: str, by: str) -> Move:
    found = tracking.or_none(lambda: client.get_model_version(name, version)) if version.isdigit() else None
    if found is None:
        numbers = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
        known = ", ".join(map(str, numbers))
        raise InputError(f"version {version}: {name} has {f'versions {known}' if known else 'no versions'}")
    if str(found.version) == now.champion == now.best:
        raise InputError(f"version {version} of {name} is champion already")
    if not found.run_id:
        raise InputError(
            f"version {version} of {name} was registered without a run: no retraining can be compared with it"
        )
    if not client.list_artifacts(found.run_id, "model"):
        raise InputError(f"version {version} of {name}: its run {found.run_id} no longer holds the model")
    wanted = Move("", now.champion, str(found.version), by, why, best=str(found.version), policy=policy)
    seen = move(client, name, now.champion, wanted)
    # On the version as well, for whoever asks where it comes from.
    client.set_model_version_tag(name, str(found.version), BY_HAND, f"{policy} by {by}: {why}"[:WHY])
    if seen:
        raise InputError(f"{name}: version {version} was made champion, and {seen}")
    return wanted


def _read(client: "MlflowClient", name: str) -> tuple[dict[str, str], list[Move]]:
    model = tracking.or_none(lambda: client.get_registered_model(name))
    if model is None:
        raise InputError(f"{name}: no model of that name is registered: run 'weathervane retrain' first")
    moves = [Move(**json.loads(text), key=key) for key, text in model.tags.items() if key.startswith(PREFIX)]
    aliases = {alias: str(version) for alias, version in model.aliases.items()}
    return aliases, sorted(moves, key=lambda entry: entry.key)


def _write(client: "MlflowClient", name: str, entry: Move) -> None:
    content: dict[str, Any] = asdict(entry)
    key = content.pop("key")
    client.set_registered_model_tag(name, key, json.dumps(content, ensure_ascii=False))


def _finish(client: "MlflowClient", name: str, entry: Move) -> None:
    """What follows once the alias has moved."""
    if entry.start not in ("", entry.to):
        client.set_registered_model_alias(name, PREVIOUS, entry.start)
    _write(client, name, replace(entry, done=True))


def _called(version: str) -> str:
    return f"version {version}" if version else "none"
