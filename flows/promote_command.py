"""`weathervane promote`, `rollback`, `history`: champions by a person's word, and how every champion came to be."""

from typing import TYPE_CHECKING

from tasks import promotion
from tasks.data import dataset_of
from tasks.locks import champion_lock
from tasks.promotion import Move
from tasks.tags import WAITING
from weathervane import project
from weathervane.errors import InputError
from weathervane.progress import say

if TYPE_CHECKING:
    from mlflow import MlflowClient


def promote(version: str, why: str) -> None:
    """Make a version champion of the project's dataset, whatever the gate said, and put the reason on record."""
    reason = _reason(why)
    client, name = _registry()
    number = version.removeprefix(f"models:/{name}/")
    if not number.isascii() or not number.isdigit():
        raise InputError(f"{version}: a version is a number, as 'weathervane history' shows them")
    with champion_lock(project.root(), name):
        _told(name, promotion.promote(client, name, number, reason, promotion.person()))


def rollback(why: str) -> None:
    """Make the previous champion champion again."""
    reason = _reason(why)
    client, name = _registry()
    with champion_lock(project.root(), name):
        _told(name, promotion.rollback(client, name, reason, promotion.person()))


def show_history() -> None:
    """Print every move of the alias `champion`: when, from, to, by whom, on what evidence."""
    client, name = _registry()
    with champion_lock(project.root(), name):
        now = promotion.standing(client, name)
    for entry in promotion.history(now):
        if isinstance(entry, str):
            say(f"! {entry}")
            continue
        say(f"{entry.when} UTC  {entry.start or '–'} → {entry.to}  {entry.policy}, by {entry.by}")
        say(f"  {entry.why}")
        if figures := ", ".join(f"{key.split('/')[-1]} {value:.3g}" for key, value in entry.evidence.items()):
            say(f"  {figures}")
    say(f"{name}: champion {now.champion or '–'}, previous {now.previous or '–'}, best so far {now.best or '–'}")
    found = {int(one.version): one.tags for one in client.search_model_versions(f"name = '{name}'")}
    told = [f"{number}{' (waits)' if found[number].get('decision') == WAITING else ''}" for number in sorted(found)]
    say(f"versions: {', '.join(told)}")


def _registry() -> "tuple[MlflowClient, str]":
    from tasks.tracking import client

    root = project.root()
    return client(root), dataset_of(root)


def _reason(why: str) -> str:
    if not why.strip():
        raise InputError("--why: say in a few words why; it is what 'weathervane history' will show")
    return why.strip()


def _told(name: str, entry: Move) -> None:
    say(f"{name}: champion {entry.start or '–'} → {entry.to}")
