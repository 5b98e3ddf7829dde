"""What is masked, and what is left as it is."""

import json
import logging
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from weathervane.errors import InputError, TrainingError, masked, without_secrets
from weathervane.progress import Json, about, say

HIDDEN = {
    "a password": ("at http://anna:secret@host:5000/api", "at http://***@host:5000/api"),
    "a token as the user": ("https://ghp_secret@github.com/x.git", "https://***@github.com/x.git"),
    "a slash in it": ("postgresql://anna:se/cret@host/db", "postgresql://***@host/db"),
    "an at sign in it": ("http://anna:sec@ret@host/", "http://***@host/"),
    "a query": ("https://host/a.zip?token=secret&v=1: 404", "https://host/a.zip?*** 404"),
    "in quotes": ("'https://host/a.zip?secret'", "'https://host/a.zip?***'"),
    "as a path": ("/home/https:/anna:secret@host/a.zip", "/home/https:/***@host/a.zip"),
    "two of them": ("http://a:secret@x/ http://b:secret@y/", "http://***@x/ http://***@y/"),
}


@pytest.mark.parametrize(("text", "told"), HIDDEN.values(), ids=HIDDEN)
def test_secrets_of_urls_are_masked(text: str, told: str) -> None:
    """User, password and query of a URL are left out, wherever it stands; the rest of the text is as it was."""
    assert masked(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "models:/weather@champion",
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning",
        "git@github.com:owner/weather.git",
        "sqlite:////home/anna/mlflow.db",
        "is it? http://host/path is fine",
        "mail anna@example.org about http://host",
    ],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    """Names of models, pages to look at and paths are told as they are."""
    assert masked(text) == text


def test_values_of_secret_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variable such as MLFLOW_TRACKING_TOKEN holds is left out wherever it turns up, also decoded, and so is the
    password of an address; short values, which could be any word, stay."""
    for name in ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "SOME_APIKEY"):
        monkeypatch.setenv(name, f"hush-{name}")
        assert masked(f"the header was <hush-{name}>") == "the header was <***>"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "anna:hush-hush")
    assert masked("anna:hush-hush or hush-hush") == "*** or ***"
    monkeypatch.setenv("SOME_URL", "http://anna:p%40ss%21word@host/")
    assert masked("p%40ss%21word is p@ss!word") == "*** is ***"
    monkeypatch.setenv("SOME_URL", "http://[anna:broken-word@")
    assert masked("broken-word") == "***"
    monkeypatch.setenv("DB_PASSWORD", "short")
    assert masked("short words") == "short words"


def test_errors_hold_no_secret() -> None:
    """Ours are masked when they are made; somebody else's when it leaves a step, and one without a secret as it is."""
    for kind in (InputError, TrainingError):
        assert str(kind("http://anna:secret@host: down")) == "http://***@host: down"
    with pytest.raises(RuntimeError, match=r"^OSError: 403 for https://host/a\?\*\*\*$"), without_secrets():
        raise OSError("403 for https://host/a?X-Signature=secret")
    with pytest.raises(KeyError, match="plain"), without_secrets():
        raise KeyError("plain")


def test_a_line_in_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said is one line with what it is about, line ends and all, and without secrets."""
    monkeypatch.setenv("WEATHERVANE_LOG", "json")
    with about(dataset="weather", step="train"), about(step="evaluate"):
        say("two\nlines at http://anna:secret@host", logging.ERROR)
    say("outside")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    time = first.pop("time")
    assert time.endswith("+00:00")
    assert first == {"level": "error", "logger": "weathervane", "message": "two\nlines at http://***@host",
                     "dataset": "weather", "step": "evaluate"}  # fmt: skip
    assert second["message"] == "outside" and "step" not in second


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("iso-8859-1", b"threads 1 \\u2192 2: a\\udcff\n"), ("utf-8", "threads 1 → 2: a\\udcff\n".encode())],
)
def test_what_the_terminal_cannot_show_ends_nothing(encoding: str, shown: bytes) -> None:
    """A sign that its encoding lacks, or the name of a file that is not in it, is said in escapes."""
    script = r"from weathervane.progress import say; say('threads 1 \u2192 2: a\udcff')"
    env = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True)
    assert (done.returncode, done.stdout) == (0, shown), done


def test_a_traceback_in_json() -> None:
    """Of any logger's record, an error is told with its traceback, without secrets."""
    try:
        raise OSError("http://anna:secret@host")
    except OSError:
        record = logging.LogRecord("prefect", logging.ERROR, "", 1, "failed: %s", ("it",), sys.exc_info())
    line = json.loads(Json("default", None, "%").format(record))
    assert line["message"] == "failed: it"
    assert "Traceback" in line["error"] and line["error"].endswith("OSError: http://***@host")
