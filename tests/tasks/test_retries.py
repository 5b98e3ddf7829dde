"""Which failures are tried again, and for how long."""

import urllib.error
from email.message import Message

import pytest

from tasks import retries
from tasks.retries import is_transient, patiently, worth_another_try
from weathervane.errors import InputError


class OperationalError(Exception):
    """An error that passes for SQLAlchemy's."""


OperationalError.__module__ = "sqlalchemy.exc"


class MlflowException(Exception):
    """An error that passes for MLflow's."""


MlflowException.__module__ = "mlflow.exceptions"


def answered(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://127.0.0.1/api", status, "", Message(), None)


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "gone_in_a_moment"),
    [
        (TimeoutError(), True),
        (urllib.error.URLError(ConnectionRefusedError()), True),
        (chained(RuntimeError("lost"), ConnectionResetError()), True),
        (chained(InputError("the server answers 502"), answered(502)), True),
        (chained(InputError("the server answers 404"), answered(404)), False),
        (MlflowException("API request to endpoint /api/x failed with error code 503 != 200"), True),
        (MlflowException("API request to endpoint /api/x failed with error code 403 != 200"), False),
        (MlflowException("API request to endpoint /api/x failed with error code 401 != 200"), False),
        (OperationalError("(sqlite3.OperationalError) database is locked"), True),
        (OperationalError("no such table: runs"), False),
        (RuntimeError("database is locked"), False),
        (FileNotFoundError("model.safetensors"), False),
        (OSError(28, "No space left on device"), False),
        (InputError("no such version"), False),
    ],
)
def test_what_may_be_gone_in_a_moment(error: Exception, gone_in_a_moment: bool) -> None:
    """Lost connections, timeouts and a locked database are tried again, known by the error, its cause or its reason;
    so is a server, or a proxy before it, that is overburdened; a full disk, a missing file, wrong input and what a
    server refuses are not."""

    class Failed:
        def result(self) -> None:
            raise error

    assert is_transient(error) is worth_another_try(None, None, Failed()) is gone_in_a_moment


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails for a moment is tried again until the limit, and what fails for good is not; Prefect tries a step
    three times more, each after a pause of its own."""
    monkeypatch.setattr(retries, "PAUSE", 0.01)
    tries: list[int] = []

    def failing(error: Exception, times: int) -> int:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return len(tries)

    assert patiently(lambda: failing(TimeoutError(), 2)) == 3
    tries.clear()
    with pytest.raises(ValueError):
        patiently(lambda: failing(ValueError(), 2))
    assert len(tries) == 1
    with pytest.raises(TimeoutError):
        patiently(lambda: failing(TimeoutError(), 50), limit=0.05)
    assert retries.RETRY["retries"] == 3 == len(retries.RETRY["retry_delay_seconds"])
