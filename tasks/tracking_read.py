"""Reading MLflow without importing it: over REST from a server, by a few queries from a local mlflow.db.

MLflow's client takes seconds to import; these answers take milliseconds. A test holds the SQL to the schema
that the installed MLflow makes.
"""

import base64
import json
import math
import os
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from tasks.tls import trusting
from weathervane import project
from weathervane.errors import InputError

if TYPE_CHECKING:
    from ssl import SSLContext

    from mlflow import MlflowClient

SQLITE = "sqlite:///"
TIMEOUT = 8.0  # seconds: a server that is down is told within ten
SEARCH = 60.0  # seconds for a page of runs, of a server that may be busy
MOST = 1000  # experiments a page
PAGE = 100  # runs, with all that they hold: a server takes a second or so for these, and ten for a thousand
REFUSED = {  # status → what to do
    401: "it wants a user and a password that it knows (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)",
    403: "this user may not see that, or the server was not told this name of its own (MLFLOW_SERVER_ALLOWED_HOSTS)",
}
BUNDLES = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # as MLflow's client has them
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
TRAININGS = "workflowType=machine_learning"  # MLflow's pages are those for agents without it


@dataclass(frozen=True)
class Run:
    """An MLflow run: status as MLflow spells it, times in ms since 1970, latest metric values that are numbers."""

    run_id: str
    name: str
    status: str
    started: int
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def page(address: str, run_id: str) -> str:
    """A run for a person to find: its page on a server, as those of trainings are shown (not of agents); or its id."""
    if not served(address):
        return f"MLflow run {run_id}"
    place = f"runs/{run_id}"
    with suppress(InputError):  # this address leads there as well
        if found := _call(address, f"runs/get?run_id={quote(run_id)}"):
            place = f"experiments/{found['run']['info']['experiment_id']}/{place}?{TRAININGS}"
    return f"{without_password(address)}/#/{place}"


def moment(milliseconds: int) -> str:
    """A time of MLflow's, as people read it (UTC, to the minute)."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def without_password(address: str) -> str:
    """An address as it may be shown, and still be opened."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, or the database that a bare `mlflow ui` at the project's root reads."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{root / 'mlflow.db'}"


def served(address: str) -> bool:
    """True for the address of an MLflow server."""
    return address.startswith(("http://", "https://"))


def local(address: str) -> Path | None:
    """The file of a database on this machine; None for any other address."""
    return Path(address.removeprefix(SQLITE)).absolute() if address.startswith(SQLITE) else None


def runs(address: str, experiment: str, tag: str, values: Iterable[str]) -> list[Run]:
    """Runs of an experiment whose `tag` has one of the values, newest first; [] where there are none yet.

    Raises:
        InputError: a server that does not answer or refuses, an address of an unknown kind.
    """
    wanted = list(values)
    if database := local(address):
        return _from_sqlite(database, experiment, tag, wanted)
    if served(address):
        return _from_server(address, experiment, tag, wanted)
    return _by_client(address, experiment, tag, wanted)


def running(address: str) -> list[Run]:
    """Runs of every experiment that MLflow takes for running, ours or not, newest first.

    Raises:
        InputError: as `runs`.
    """
    if database := local(address):
        return _select(database, "r.status = 'RUNNING'", [])
    wanted = "attributes.status = 'RUNNING'"
    if served(address):
        ids = [one["experiment_id"] for one in _every(address, "experiments", {"max_results": MOST})]
        return _search(address, ids, [wanted])
    client = connect(address)
    return _ask(client, [one.experiment_id for one in pages(client.search_experiments)], [wanted])


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A local mlflow.db.

    For writing, too, though hardly anybody does: what a killed writer left behind is rolled back by the next one who
    opens it so, and nobody could read it before.

    Raises:
        InputError: the file is no database of MLflow's, or is locked for longer than seconds.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=TIMEOUT)) as database:
            yield database
    except sqlite3.Error as error:
        raise InputError(f"{path}: not readable as MLflow's database ({error})") from None


def tracked_root() -> Path:
    """The project's root, once its MLflow server (where there is one) has answered.

    Raises:
        InputError: this is no project, or the server does not answer.
    """
    root = project.root()
    check_server(uri(root))
    return root


def check_server(address: str) -> None:
    """Ask a configured server for anything at all, so that one that is down is told before the work begins."""
    if served(address):
        _reach(address)
    elif not (database := local(address)):
        connect(address)
    elif unquote(str(database)) != str(database) or "?" in str(database):
        raise InputError(
            f"{database.parent}: MLflow takes '?' in a folder's name for the end of it, and '%' with two digits for an "
            "escaped character, and would keep models elsewhere: give the folder another name"
        )


def _from_sqlite(path: Path, experiment: str, tag: str, values: list[str]) -> list[Run]:
    tagged = f"SELECT run_uuid FROM tags WHERE key = ? AND value IN ({', '.join('?' * len(values))})"
    return _select(path, f"e.name = ? AND r.run_uuid IN ({tagged})", [experiment, tag, *values])


def _select(path: Path, condition: str, arguments: list[str]) -> list[Run]:
    if not path.is_file():
        return []
    with opened(path) as database:
        rows = database.execute(
            "SELECT r.run_uuid, r.name, r.status, r.start_time FROM runs r"
            " JOIN experiments e ON e.experiment_id = r.experiment_id"
            f" WHERE r.lifecycle_stage = 'active' AND {condition} ORDER BY r.start_time DESC",
            arguments,
        ).fetchall()
        return [
            Run(
                run_id,
                name,
                status,
                started,
                dict(database.execute("SELECT key, value FROM tags WHERE run_uuid = ?", [run_id])),
                dict(
                    database.execute(
                        "SELECT key, value FROM latest_metrics WHERE run_uuid = ? AND NOT is_nan", [run_id]
                    )
                ),
            )
            for run_id, name, status, started in rows
        ]


def _from_server(address: str, experiment: str, tag: str, values: list[str]) -> list[Run]:
    found = _call(address, f"experiments/get-by-name?experiment_name={quote(experiment, safe='')}")
    if found is None:
        return []
    return _search(address, [found["experiment"]["experiment_id"]], [_filter(tag, value) for value in values])


def _search(address: str, experiments: list[str], filters: list[str]) -> list[Run]:
    search = {"experiment_ids": experiments, "max_results": PAGE, "order_by": ["attributes.start_time DESC"]}
    seen = [
        Run(
            run["info"]["run_id"],
            run["info"].get("run_name", ""),
            run["info"]["status"],
            int(run["info"]["start_time"]),
            {tag["key"]: tag["value"] for tag in run["data"].get("tags", ())},
            {m["key"]: m["value"] for m in run["data"].get("metrics", ()) if m["value"] != "NaN"},
        )
        for wanted in filters
        for run in _every(address, "runs", {**search, "filter": wanted})
    ]
    return sorted(seen, key=lambda run: run.started, reverse=True)


def _every(address: str, what: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All runs or experiments that a search finds, page by page."""
    while True:
        answer = _call(address, f"{what}/search", body, SEARCH) or {}
        yield from answer.get(what, ())
        if not (token := answer.get("next_page_token")):
            return
        body = {**body, "page_token": token}


def pages(search: Callable[..., Any], *arguments: Any, **named: Any) -> Iterator[Any]:
    """Everything that one of the client's searches finds."""
    token = None
    while True:
        page = search(*arguments, **named, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _filter(tag: str, value: str) -> str:
    return f'tags.`{tag}` = "{value}"'  # MLflow knows no IN for tags


def _call(
    address: str, path: str, body: dict[str, Any] | None = None, timeout: float = TIMEOUT
) -> dict[str, Any] | None:
    """One REST call; None where the server says that the thing does not exist."""
    try:
        with urlopen(_request(address, path, body), timeout=timeout, context=_trust()) as answer:
            found = json.load(answer)
            if not isinstance(found, dict):
                raise ValueError("its answer is not MLflow's")
            return found
    except HTTPError as error:
        if error.code == 404 and b"RESOURCE_DOES_NOT_EXIST" in error.read():
            return None
        why = REFUSED.get(error.code, "is it MLflow's?")
        raise InputError(f"MLFLOW_TRACKING_URI {address}: the server answers {error.code}: {why}") from None
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"MLFLOW_TRACKING_URI {address}: no MLflow server answers there ({reason}): start it, or unset "
            "the variable to work with a local mlflow.db"
        ) from None


def _request(address: str, path: str, body: dict[str, Any] | None) -> Request:
    parts = urlsplit(address)
    request = Request(f"{without_password(address)}/api/2.0/mlflow/{path}")
    user = _credential("MLFLOW_TRACKING_USERNAME") or unquote(parts.username or "")
    password = _credential("MLFLOW_TRACKING_PASSWORD") or unquote(parts.password or "")
    if user and password:  # before a token, as MLflow's client has it
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        request.add_header("Authorization", f"Bearer {token}")
    if body is not None:
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode()
    return request


def _credential(name: str) -> str:
    """From the environment, or from the file in which MLflow's client looks as well."""
    if value := os.environ.get(name):
        return value
    file = ConfigParser()
    with suppress(ConfigError, UnicodeError):
        file.read(Path("~/.mlflow/credentials").expanduser(), encoding="utf-8")
        return file.get("mlflow", name.lower(), fallback="")
    return ""


def _trust() -> "SSLContext | None":
    bundle = next(filter(None, map(os.environ.get, BUNDLES)), None)
    return trusting(bundle, os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"))


def _by_client(address: str, experiment: str, tag: str, values: list[str]) -> list[Run]:
    """Other stores (PostgreSQL and the like) by MLflow's own client."""
    client = connect(address)
    found = client.get_experiment_by_name(experiment)
    return _ask(client, [found.experiment_id], [_filter(tag, value) for value in values]) if found else []


def _ask(client: Any, experiments: list[str], filters: list[str]) -> list[Run]:
    seen = [
        Run(
            r.info.run_id,
            r.info.run_name,
            r.info.status,
            r.info.start_time,
            r.data.tags,
            {name: number for name, number in r.data.metrics.items() if not math.isnan(number)},
        )
        for wanted in filters
        for r in pages(client.search_runs, experiments, wanted, order_by=["start_time DESC"], max_results=PAGE)
    ]
    return sorted(seen, key=lambda run: run.started, reverse=True)


def connect(address: str) -> "MlflowClient":
    """MLflow's own client of a store.

    Raises:
        InputError: nothing answers there, or MLflow does not know such stores.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    _reach(address)
    try:
        return MlflowClient(address)
    except (MlflowException, SQLAlchemyError, ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"MLFLOW_TRACKING_URI {address}: not usable: {reason}") from None


def _reach(address: str) -> None:
    """Told within seconds if nothing answers: MLflow itself would try for minutes."""
    if served(address):
        _call(address, "experiments/search?max_results=1")  # for which nobody needs a permission
        return
    try:
        parts = urlsplit(address)
        if parts.hostname and (port := parts.port or PORTS.get(parts.scheme.partition("+")[0])):
            socket.create_connection((parts.hostname, port), TIMEOUT).close()
    except (OSError, ValueError) as error:
        raise InputError(f"MLFLOW_TRACKING_URI {address}: no database answers there ({error})") from None
