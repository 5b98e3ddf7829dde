"""Which failures may be gone in a moment: a tracking server or a network, never bad input or wrong code."""

from typing import Any


def momentary(task: Any, run: Any, state: Any) -> bool:
    """Prefect's `retry_condition_fn`: true for lost connections, timeouts and a locked database."""
    try:
        state.result()
    except Exception as error:
        return may_pass(error)
    return False


def may_pass(error: BaseException) -> bool:
    """True for what may be gone in a moment, by the error or by what it came from."""
    chain = [error, error.__cause__, error.__context__]
    return any(isinstance(one, ConnectionError | TimeoutError) or _names_a_server(one) for one in chain)


RETRY: dict[str, Any] = {"retries": 3, "retry_delay_seconds": [2, 10, 30], "retry_condition_fn": momentary}


def _names_a_server(error: BaseException | None) -> bool:
    module, text = type(error).__module__.split(".")[0], str(error)
    if module in ("requests", "urllib3"):
        return True
    return module in ("mlflow", "sqlalchemy") and any(
        sign in text for sign in ("API request to", "database is locked", "Connection", "timed out", "error code 50")
    )
