"""Which Prefect server a person works with, and whether it answers: asked without importing Prefect, which takes
seconds, and from then on does not look at the environment any more."""

import json
import os
import subprocess
import sys
import tomllib
from base64 import b64encode
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from tasks.tls import trusting
from weathervane.errors import InputError

ASK = """
import json
from prefect import settings

found = {}
for name in ("URL", "AUTH_STRING", "KEY", "SSL_CERT_FILE", "TLS_INSECURE_SKIP_VERIFY"):
    value = getattr(settings, f"PREFECT_API_{name}").value()
    if value := value.get_secret_value() if hasattr(value, "get_secret_value") else value:
        found[f"PREFECT_API_{name}"] = str(value)
print(json.dumps(found))
"""


def configured() -> str | None:
    """The address of the person's Prefect server."""
    return _setting("PREFECT_API_URL")


def required() -> str:
    """The address of the person's Prefect server.

    Raises:
        InputError: none is configured.
    """
    if address := configured():
        return address
    raise InputError(
        "PREFECT_API_URL: no Prefect server is configured: name one, as in http://127.0.0.1:4200/api, or 'weathervane "
        "up' starts one"
    )


def _setting(name: str) -> str | None:
    """One of Prefect's settings, from the environment, the folder's own files or the active profile."""
    if value := os.environ.get(name):
        return value
    if value := _set_here().get(name):
        return value
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or content.get("active", "")
    value = content.get("profiles", {}).get(active, {}).get(name)
    return str(value) if value else None


@cache
def _set_here() -> dict[str, str]:
    """What files of the current folder say of Prefect's API: Prefect's own answer, from a process that ends with it."""
    for name, sign in (("prefect.toml", "api"), (".env", "PREFECT_API_"), ("pyproject.toml", "[tool.prefect")):
        with suppress(OSError, UnicodeDecodeError):
            if sign in Path(name).read_text(encoding="utf-8"):
                done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True)
                return dict(json.loads(done.stdout)) if done.returncode == 0 else {}
    return {}


def check(address: str) -> None:
    """Ask a configured server for something, so that one that is down or refuses is told before the work begins.

    Raises:
        InputError: nothing answers within 8 s, or it wants another password.
    """
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    password = _setting("PREFECT_API_AUTH_STRING")
    insecure = str(_setting("PREFECT_API_TLS_INSECURE_SKIP_VERIFY")).lower() in ("true", "1")
    try:
        parts = urlsplit(address)
        password = password or parts.netloc.rpartition("@")[0]
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/admin/version"
        request = urllib.request.Request(url)
        if password:
            request.add_header("Authorization", f"Basic {b64encode(password.encode()).decode()}")
        trust = trusting(_setting("PREFECT_API_SSL_CERT_FILE"), insecure)
        with urllib.request.urlopen(request, timeout=8, context=trust) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        if _setting("PREFECT_API_KEY"):  # Prefect's own cloud, which has no such page
            return
        if error.code == HTTPStatus.UNAUTHORIZED:
            how = "is wrong" if password else "is not set"
            raise InputError(
                f"PREFECT_API_URL {address}: the server asks for a password, and PREFECT_API_AUTH_STRING "
                f"(user:password) {how}"
            ) from None
        raise InputError(
            f"PREFECT_API_URL {address}: the server answers {error.code}: Prefect's address ends with /api, and one "
            "that 'weathervane up' started answers to the names in its WEATHERVANE_ALLOWED_HOSTS"
        ) from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"PREFECT_API_URL {address}: no Prefect server answers there ({reason}): start it, or unset it (in "
            "the environment or the profile) and one is started for the time of the command"
        ) from None
