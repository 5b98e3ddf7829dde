"""Which failures may be gone in a moment: a tracking server or a network, never bad input or wrong code."""

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.error import HTTPError

from weathervane.errors import in_brief
from weathervane.progress import say

T = TypeVar("T")
BUSY = (429, 502, 503, 504)  # statuses of a server, or of the proxy before it, that may answer again
REFUSALS = ("error code 401", "error code 403")  # in MLflow's words
PATIENCE, PAUSE = 600.0, 2.0  # seconds that hours of training wait for a server, and between two tries


def worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """Prefect's `retry_condition_fn`: true for lost connections, timeouts and a locked database."""
    try:
        state.result()
    except Exception as error:
        return is_transient(error)
    return False


def is_transient(error: BaseException) -> bool:
    """True for what may be gone in a moment, by the error or by what it came from."""
    chain = [error, error.__cause__, error.__context__]
    chain += [getattr(one, "reason", None) for one in chain]  # of a URLError
    return any(
        isinstance(one, ConnectionError | TimeoutError)
        or (isinstance(one, HTTPError) and one.code in BUSY)
        or _names_a_server(one)
        for one in chain
    )


def patiently(
    work: Callable[[], T],
    passes: Callable[[BaseException], bool] = is_transient,
    whom: str = "the tracking server",
    limit: float = PATIENCE,
) -> T:
    """What `work` returns, tried for `limit` seconds where it fails for what `passes`; `whom` it waits for is said."""
    deadline, told = time.monotonic() + limit, False
    while True:
        try:
            return work()
        except Exception as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
            if not told:
                say(f"waiting for {whom}: {in_brief(error)}")
            told = True
        time.sleep(PAUSE)


RETRY: dict[str, Any] = {"retries": 3, "retry_delay_seconds": [2, 10, 30], "retry_condition_fn": worth_another_try}


def _names_a_server(error: BaseException | None) -> bool:
    module, text = type(error).__module__.split(".")[0], str(error)
    if module in ("requests", "urllib3"):
        return True
    return (
        module in ("mlflow", "sqlalchemy")
        and not any(refusal in text for refusal in REFUSALS)
        and any(sign in text for sign in ("API request to", "database is locked", "Connection", "timed out"))
    )
