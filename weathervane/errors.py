"""What a person can put right, and how it is told: without any secret, wherever the message ends up."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

SECRET = re.compile(r"PASSW|TOKEN|SECRET|CREDENTIAL|AUTH_STRING|API_?KEY|ACCESS_?KEY", re.IGNORECASE)  # variables
SHORT = 6  # characters of a secret that could be any word
WEB = r"(?:https?:/+|://)"  # a path swallows the second slash
USER = re.compile(rf"({WEB})(?:[^/\s:@]*:(?!\d+[/\s])[^\s'\"]*|[^/\s]*)@")  # a password may hold what no URL should
QUERY = re.compile(rf"({WEB}[^\s'\"?#]*\?)[^\s'\"#)]+")


def masked(text: str) -> str:
    """The text without secrets: user, password and query of every URL, and the values of variables that hold one."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return QUERY.sub(r"\1***", USER.sub(r"\1***@", text))


def _secrets() -> list[str]:
    """What the environment holds of them, as written and decoded; the longest first."""
    found = set()
    for name, value in os.environ.items():
        if SECRET.search(name):
            found |= {value, value.partition(":")[2]}
        elif "://" in value and "@" in value:
            user = value.partition("://")[2].split("/")[0].rpartition("@")[0]
            password = user.partition(":")[2]
            found |= {user, password, unquote(password)}
    return sorted((secret for secret in found if len(secret) >= SHORT), key=len, reverse=True)


@contextmanager
def without_secrets() -> Iterator[None]:
    """Somebody else's error whose message holds a secret leaves the block without it."""
    try:
        yield
    except Exception as error:
        if (told := masked(str(error))) == str(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {told}") from None


def in_brief(error: BaseException) -> str:
    """Somebody else's error in one line of 300 characters at most, without secrets."""
    told = str(error).partition(" failed with exception")[0]  # what an HTTP client adds of its own workings
    return masked(" ".join(told.split()))[:300] or type(error).__name__  # masked before it is cut


class Told(Exception):
    """An error for a person: its message is masked from the start."""

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


class InputError(Told, ValueError):
    """Bad input: the message names the file or the parameter, what is wrong with it, and the way out.

    The command line prints it as one line and ends with status 2; nothing has been written.
    """


class TrainingError(Told, RuntimeError):
    """A variant could not be trained: the message says at which epoch and why."""


class Interrupted(Told, RuntimeError):
    """Somebody asked the training to stop; its checkpoint is written and the same call goes on from there."""
