"""Where the passwords of addresses go, and what log records lose."""

import logging
import os

import pytest

from flows.environment import apply
from flows.secrets import keep_secrets, parted
from weathervane.errors import InputError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `apply` sets is of the test alone."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)


def test_the_password_of_an_address_moves_to_the_variables_that_clients_read() -> None:
    """MLflow's and Prefect's clients, which print addresses, never get one with a password in it; they find it where
    else they look for it. What a person has set there stays."""
    os.environ["MLFLOW_TRACKING_URI"] = "https://anna:p%40ss@mlflow.example.org:8443/base"
    os.environ["PREFECT_API_URL"] = "http://bo:hush@127.0.0.1:4200/api"
    os.environ["PREFECT_API_AUTH_STRING"] = "own:setting"
    apply()
    assert os.environ["MLFLOW_TRACKING_URI"] == "https://mlflow.example.org:8443/base"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("anna", "p@ss")
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "own:setting"


def test_other_addresses_stay() -> None:
    """Addresses without a password, of databases, or that are none, are nobody's to change."""
    for address in ("http://host:5000", "sqlite:///mlflow.db", "postgresql://anna:hush@host/db", "http://[broken", ""):
        assert parted(address) == (address, "", "")


def test_a_wrong_form_of_logs_is_refused() -> None:
    """WEATHERVANE_LOG is json or nothing."""
    os.environ["WEATHERVANE_LOG"] = "xml"
    with pytest.raises(InputError, match="WEATHERVANE_LOG: 'json' is"):
        apply()


def test_no_loggers_record_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever logs it, in the message, an argument or a traceback; other records keep message and arguments apart, and
    arguments that do not fit are told by whoever shows them, as ever."""
    keep_secrets()
    keep_secrets()
    log = logging.getLogger("somebody.else")
    log.warning("at %s", "http://anna:hush@host")
    log.warning("at %s", "http://host")
    try:
        raise OSError("http://anna:hush@host")
    except OSError:
        log.exception("failed")
    assert [record.getMessage() for record in caplog.records] == ["at http://***@host", "at http://host", "failed"]
    assert caplog.records[1].args == ("http://host",)
    assert "OSError: http://***@host" in caplog.text and "hush" not in caplog.text
    assert logging.getLogRecordFactory()("n", 30, "", 1, "%d", ("x",), None).args == ("x",)
