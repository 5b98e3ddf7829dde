"""`weathervane notify`: stores the secret address of a target on Prefect's server, once a test message got there."""

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, get_args

from flows.notify import ADDRESSES, BLOCK_TYPE, NOTIFY, Kind, Occasion, Target, block, body, home, read
from flows.prefect_settings import configured
from flows.server import own_server
from weathervane import params, project
from weathervane.errors import InputError, masked
from weathervane.progress import say

if TYPE_CHECKING:
    from prefect.blocks.notifications import SlackWebhook

VARIABLE = "WEATHERVANE_NOTIFY_URL"


def store(kind: str, name: str | None) -> None:
    """Ask for the address, send a test message there, and store the address if that went well.

    Raises:
        InputError: no such kind, no such address, or the message was not taken; nothing has been stored.
    """
    target = params.check(
        Target, {"kind": kind, "block": name or f"weathervane-{kind}", "on": ["failure"]}, "weathervane notify"
    )
    root = project.root()
    known = read(root)
    address = os.environ.get(VARIABLE) or _ask(target.kind)
    with ExitStack() as stack:
        url, server = configured(), own_server(root, stack)
        made = block(target.kind, address)
        _send(made, target.kind)
        if server:
            server.wait()
        made.save(target.block, overwrite=True)
    where = masked(url) if url else "your own Prefect database"
    say(f"a test message was taken; the address is in the block {BLOCK_TYPE}/{target.block} of {where}")
    if target.block not in {one.block for one in known.targets}:
        say(f"add to the targets in {NOTIFY}, then run 'weathervane deploy':")
        say(f"- {{kind: {kind}, block: {target.block}, on: [{', '.join(get_args(Occasion))}]}}")


def _send(made: "SlackWebhook", kind: Kind) -> None:
    from jinja2 import Template
    from prefect.blocks.abstract import NotificationError

    subject, text = "Weathervane: a test", f"Whoever reads this is told what {NOTIFY} says."
    try:
        with made.raise_on_failure():
            made.notify(Template(body(kind, subject, text, home())).render(), subject)
    except NotificationError as error:
        why = error.log.strip().split("\n")[-1]
        raise InputError(f"the test message was not taken, so nothing was stored: {why}") from None


def _ask(kind: Kind) -> str:
    import sys
    from getpass import getpass

    if not sys.stdin.isatty():
        raise InputError(f"{VARIABLE} is not set, and there is no terminal to ask for the address at")
    say(f"the form of the address is {ADDRESSES[kind]}")
    return getpass("address (not shown): ")
