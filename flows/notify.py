"""Who is told what: params/notify.yaml, the form of a message for each kind of target, the blocks with the addresses.

The server sends the messages itself, also when nothing of ours runs any more, so a block of a type that every Prefect
server has keeps each address: "Slack Webhook", which takes any URL of Apprise. Prefect's other two will not do. "Custom
Webhook" writes the whole URL to the server's log when the other side answers with an error; the action "call a
webhook" closes the connections of whatever else is being sent, and knows no proxy.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import Field, field_validator

from weathervane.errors import InputError, masked
from weathervane.params import Strict, load

if TYPE_CHECKING:
    from prefect.blocks.notifications import SlackWebhook

NOTIFY = Path("params/notify.yaml")
BLOCK_TYPE = "slack-webhook"
Kind = Literal["slack", "teams", "discord", "webhook", "email"]
Occasion = Literal["failure", "promotion", "approval", "overdue", "drift"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RETRY = {"retry": "2", "wait": "5"}  # times, seconds


class Target(Strict):
    """Somebody who is told something."""

    kind: Kind
    block: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")  # as Prefect names blocks
    on: list[Occasion] = Field(min_length=1)


class Notify(Strict):
    """params/notify.yaml."""

    targets: list[Target]
    overdue_days: float = Field(ge=0.0001, le=366)  # Prefect's shortest wait is 10 s

    @field_validator("targets")
    @classmethod
    def _once(cls, targets: list[Target]) -> list[Target]:
        if len({target.block for target in targets}) < len(targets):
            raise ValueError("the same block stands there twice")
        return targets


def read(root: Path) -> Notify:
    """params/notify.yaml, checked."""
    return load(Notify, root / NOTIFY)


def body(kind: Kind, subject: str, text: str, link: str) -> str:
    """A template (Jinja's) of the body of a message, from templates of its parts; the subject goes along apart."""
    whole = "\n".join([subject, text, link])
    if kind == "slack":  # reads <...> as a link, or as a call of everybody
        return _filtered(whole, ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
    if kind == "discord":  # calls everybody at @everyone
        return _filtered(whole, ("@", "@\u200b"))
    if kind == "teams":  # begins a line where one is empty
        return _filtered(text, ("\n", "\n\n")) + f"\n\n[Open in Prefect]({link})"
    return f"{text}\n\n{link}"


def _filtered(template: str, *replacements: tuple[str, str]) -> str:
    filters = " | ".join(f"replace({old!r}, {new!r})" for old, new in replacements)
    return f"{{% filter {filters} %}}{template}{{% endfilter %}}"


def home() -> str:
    """Prefect's first page where people find it, without the name and password that its address may hold."""
    from prefect.settings import PREFECT_UI_URL

    return masked(PREFECT_UI_URL.value() or "").replace("***@", "")


def block(kind: Kind, address: str) -> "SlackWebhook":
    """Prefect's block that keeps the secret address of a target, not stored yet.

    Raises:
        InputError: that is no address of this kind; the message does not show it.
    """
    import logging

    from apprise import Apprise
    from prefect.blocks.notifications import SlackWebhook

    logger = logging.getLogger("apprise")
    logger.disabled = True  # it shows an address that it cannot read
    try:
        url = _apprise(kind, address.strip())
        sound = url and Apprise.instantiate(url)
    except ValueError:  # a port that is no number
        sound = None
    finally:
        logger.disabled = False
    if not sound:
        raise InputError(f"that is no address for {kind}: the form is {ADDRESSES[kind]}")
    return SlackWebhook(url=url)


ADDRESSES: dict[Kind, str] = {
    "slack": "https://hooks.slack.com/services/..., as Slack shows it for an incoming webhook",
    "teams": "https://.../workflows/.../triggers/manual/paths/invoke?...&sig=..., as Teams shows it for a workflow "
    "'when a webhook request is received'",
    "discord": "https://discord.com/api/webhooks/..., as Discord shows it for a webhook",
    "webhook": 'https://..., where {"subject": ..., "text": ...} is understood',
    "email": "mailtos://USER:PASSWORD@SERVER:587?from=SENDER&to=WHOM (mailto:// where the server speaks no TLS)",
}
# Fields of Apprise's JSON, renamed or, where empty, left out.
FIELDS = {":version": "", ":type": "", ":attachments": "", ":title": "", ":message": "text"}
JSON = {"slack": FIELDS, "discord": FIELDS | {":message": "content"}, "webhook": FIELDS | {":title": "subject"}}


def _apprise(kind: Kind, address: str) -> str | None:
    """The address as a URL of Apprise; none where it is not of the kind."""
    parts = urlsplit(address)
    if (
        not parts.hostname
        or parts.port == 0
        or parts.scheme not in (("mailto", "mailtos") if kind == "email" else ("http", "https"))
    ):
        return None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if kind == "email":
        return parts._replace(query=_query({"format": "text"} | query | RETRY)).geturl()
    if kind == "teams":
        from apprise.plugins.workflows import NotifyWorkflows

        found = NotifyWorkflows.parse_native_url(address)
        return str(NotifyWorkflows(**found | {"include_image": False} | RETRY).url()) if found else None
    passed = {f"-{name}": value for name, value in query.items()}
    scheme = parts.scheme.replace("http", "json")
    return parts._replace(scheme=scheme, query=_query(JSON[kind] | passed | RETRY), fragment="").geturl()


def _query(values: dict[str, str]) -> str:
    return urlencode(values, quote_via=quote)
