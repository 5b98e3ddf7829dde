"""What Prefect, MLflow and DVC find when imported (a person's own settings win), and who hears what is said."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from flows.prefect_settings import configured
from flows.secrets import keep_secrets, parted
from tasks.tracking_read import SQLITE, local
from weathervane.errors import InputError, Told, without_secrets
from weathervane.process import collect_seldom
from weathervane.progress import SETTING, about, as_json, logger, say
from weathervane.unheard import outlive_the_reader

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; the server ends a run that misses three
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # ours say it
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own patience is minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
TEXT = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}  # the command line says it in its own words
LOUD = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO"}  # for processes that have a log of their own
JSON = {
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "weathervane.progress.Json",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_STREAM": "ext://sys.stdout",
    "PREFECT_LOGGING_COLORS": "false",
}
OLDER_CODE = "WEATHERVANE_OLDER_CODE"  # why a worker's clone was not brought up to date, for the flow to say
WORKER = {
    "PREFECT_WORKER_QUERY_SECONDS": "3",
    "PREFECT_RUNNER_POLL_FREQUENCY": "3",
}


def apply() -> None:
    """Before the first of them is imported.

    Raises:
        InputError: WEATHERVANE_LOG is not what it may be.
    """
    if os.environ.get(SETTING, "json") not in ("", "json"):
        raise InputError(f"{SETTING}: 'json' is a line of JSON for each that is said; unset it for plain text")
    collect_seldom()
    keep_secrets()
    for name, value in (QUIET | (JSON if as_json() else TEXT)).items():
        os.environ.setdefault(name, value)
    _set_credentials_aside()
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # a server that is started works in another folder
        if (database := local(os.environ.get(name, ""))) and database.name != ":memory:":
            os.environ[name] = f"{SQLITE}{database}"
    _ask_no_proxy_for_loopback()


def _ask_no_proxy_for_loopback() -> None:
    """Both names: clients differ in which they heed, and the lower-case one comes before the other."""
    held = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    if held != "*" and "127.0.0.1,localhost" not in held:
        held = ",".join(filter(None, (held, "127.0.0.1,localhost")))
    os.environ.update(no_proxy=held, NO_PROXY=held)


@contextmanager
def told_in_prefect() -> Iterator[None]:
    """In a flow, whoever started it: what is said stands on Prefect's page as well, with the run's name in JSON."""
    apply()
    from prefect import runtime

    if runtime.deployment.id:
        outlive_the_reader()
    from prefect.logging.handlers import APILogHandler

    handler, tasks = APILogHandler(), logging.getLogger("prefect.task_runs")
    logger().addHandler(handler)
    tasks.addFilter(_told_plainly)
    try:
        with about(flow_run=str(runtime.flow_run.name)), without_secrets():
            if older := os.environ.pop(OLDER_CODE, ""):
                say(older, logging.WARNING)
            yield
    finally:
        logger().removeHandler(handler)
        tasks.removeFilter(_told_plainly)


def _told_plainly(record: logging.LogRecord) -> bool:
    """Leaves out the traceback of what a person can put right; the line itself stays."""
    if record.exc_info and isinstance(record.exc_info[1], Told):
        record.exc_info = record.exc_text = None  # the latter is what Prefect has made of the former by then
    return True


def _set_credentials_aside() -> None:
    """Out of the servers' addresses, which clients print and record, into the variables that they read as well."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        address, user, password = parted(os.environ.get(name, ""))
        if user:
            os.environ[name] = address
            os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
            os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password)
    address, user, password = parted(configured() or "")
    if user:
        os.environ["PREFECT_API_URL"] = address
        os.environ.setdefault("PREFECT_API_AUTH_STRING", f"{user}:{password}")
