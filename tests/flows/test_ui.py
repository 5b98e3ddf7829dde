"""`weathervane ui`: MLflow's pages in a real browser, and what becomes of its server."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tasks import tracking, view
from tests.conftest import copy_project
from tests.flows.browser import browser

WEATHERVANE = Path(sys.executable).with_name("weathervane")


@dataclass(frozen=True)
class Shown:
    """The command at work, and the page that it printed."""

    process: "subprocess.Popen[str]"
    page: str


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Path:
    """A project with one retraining of one variant in its store."""
    root = copy_project(tmp_path_factory.mktemp("shown"))
    shutil.copy(fresh_database, root)
    experiment = tracking.experiment(root, "weather-synthetic")
    parent = tracking.start_run(root, experiment, "retrain of this morning", {"kind": "retraining"})
    child = tracking.start_run(root, experiment, "cnn", {"kind": "variant"}, parent)
    tracking.log(root, child, metrics={"test/accuracy": 0.875, "val/accuracy": 0.9}, params={"family": "cnn"})
    with Image.new("RGB", (300, 300), "navy") as picture:
        tracking.client(root).log_image(child, picture, key="confusion", step=0)
    for run in (child, parent):
        tracking.end_run(root, run)
    return root


def start(root: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [str(WEATHERVANE), "ui", "--no-open", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def shown(root: Path) -> Iterator[Shown]:
    process = start(root, "--port", "0")
    try:
        assert process.stdout
        page = process.stdout.readline().strip()
        assert page.startswith("http://127.0.0.1:"), process.communicate()
        yield Shown(process, page)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_page_that_it_prints_shows_the_runs(shown: Shown) -> None:
    """The printed address opens a comparison of this dataset's variants, not MLflow's welcome page: sections in their
    order, charts with a run in them, the picture that was logged."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#/experiments/\d+/runs\?.*viewStateShareKey=.*", shown.page)
    with browser("see MLflow's pages tested") as chromium:
        page = chromium.new_page(viewport={"width": 1500, "height": 900})
        page.goto(shown.page)
        sections = [page.get_by_text(name, exact=True).last for name in (view.NAME, view.SIDE_BY_SIDE)]
        for section in sections:
            section.wait_for(timeout=60_000)
        page.get_by_role("link", name="cnn").first.wait_for()
        page.get_by_text("val/accuracy vs. test/accuracy").first.wait_for()
        sections[1].scroll_into_view_if_needed()
        page.locator("img[src^='data:image/png']").first.wait_for()
        upper, lower = (section.bounding_box() for section in sections)
        assert upper and lower and upper["y"] < lower["y"]


@pytest.mark.fault(53)
@pytest.mark.slow
def test_it_is_lean_and_on_loopback(shown: Shown) -> None:
    """It takes three processes instead of a dozen, and no other machine reaches it."""
    family = psutil.Process(shown.process.pid).children(recursive=True)
    assert 1 <= len(family) <= 3
    listening = [c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.fault(33)
@pytest.mark.slow
def test_it_ends_its_server_even_when_it_is_killed(shown: Shown) -> None:
    """SIGKILL of the command leaves no server behind."""
    family = psutil.Process(shown.process.pid).children(recursive=True)
    shown.process.kill()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []


@pytest.mark.fault(22)
@pytest.mark.slow
def test_a_taken_port_is_told_at_once(root: Path) -> None:
    """Nobody waits for a server that cannot come up: the port is named, with status 2, within 5 s."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        began = time.monotonic()
        process = start(root, "--port", str(port))
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 5
    assert (process.returncode, out) == (2, "")
    assert err.startswith(f"weathervane: --port {port}: Address already in use") and err.count("\n") == 1


@pytest.mark.slow
def test_with_a_server_configured_it_names_that(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who works against the team's server is sent there; the password is not printed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://anna:secret@mlflow.example.org/team")
    out, err = start(root).communicate(timeout=60)
    assert "mlflow.example.org/team" in out
    assert "secret" not in out + err
