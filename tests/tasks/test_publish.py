"""`commit: push` in params/ingest.yaml: the data's bytes and its two files go out, and nothing else does."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks import data
from tasks.announced import announce
from tasks.publish import publish
from tests.conftest import copy_project
from weathervane.errors import InputError

pytestmark = pytest.mark.slow


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shared repository and a worker's clone of it, on a dataset of 40 rendered skies. To be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    project = copy_project(folder / "project")
    for name, value in (("user.name", "worker"), ("user.email", "worker@example.org")):
        git(project, "config", name, value)
    git(folder, "init", "-q", "--bare", "-b", "main", "shared.git")
    git(project, "remote", "add", "origin", "../shared.git")
    path = project / "params/ingest.yaml"
    text = path.read_text().replace("per_class: 100", "per_class: 10").replace("commit: never", "commit: push")
    path.write_text(text)
    git(project, "commit", "-qam", "small")
    git(project, "push", "-q", "-u", "origin", "HEAD:main")
    git(project, "branch", "-q", "--set-upstream-to", "origin/main")
    with contextlib.chdir(project):
        data.ingest_and_record(project)
        data.prepare_and_record(project)
    return folder


@pytest.fixture
def worker(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worker's clone, with a change of somebody's own; the working folder."""
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    project = tmp_path / "project"
    (project / "README.md").write_text("mine, and not finished")
    monkeypatch.chdir(project)
    return project


def with_a_remote(worker: Path, tmp_path: Path) -> None:
    config = (worker / ".dvc/config").read_text().replace("[core]\n", "[core]\n    remote = bytes\n")
    (worker / ".dvc/config").write_text(f"{config}['remote \"bytes\"']\n    url = {tmp_path / 'bytes'}\n")


def a_colleague_pushes(tmp_path: Path) -> Path:
    """Another clone, in which the licence was changed, and dvc.lock with it, as newer code brings it."""
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(tmp_path / "shared.git"), str(other))
    for name, value in (("user.name", "colleague"), ("user.email", "colleague@example.org")):
        git(other, "config", name, value)
    (other / "LICENSE").write_text("another")
    (other / "dvc.lock").write_text("# of newer code\n" + (other / "dvc.lock").read_text())
    git(other, "commit", "-qam", "Licence")
    git(other, "push", "-q")
    return other


def test_exactly_the_datas_two_files_are_committed(worker: Path, tmp_path: Path) -> None:
    """The remote has the bytes, the shared repository one more commit with data/raw.dvc and dvc.lock; what else was
    changed stays where it is. A second time there is nothing to commit."""
    with_a_remote(worker, tmp_path)
    assert publish.fn(worker)
    shared = tmp_path / "shared.git"
    assert git(shared, "show", "--name-only", "--format=", "main").split() == ["data/raw.dvc", "dvc.lock"]
    assert git(shared, "show", "main:data/raw.dvc") == (worker / "data/raw.dvc").read_text()
    assert len([path for path in (tmp_path / "bytes").rglob("*") if path.is_file()]) > 40
    changed = git(worker, "status", "--porcelain", "-uno").split("\n")
    assert {line[3:] for line in changed if line} == {"README.md", ".dvc/config"}
    head = git(worker, "rev-parse", "HEAD")
    assert publish.fn(worker)
    assert git(worker, "rev-parse", "HEAD") == head == git(shared, "rev-parse", "main")


def test_somebody_elses_commit_is_no_obstacle(worker: Path, tmp_path: Path) -> None:
    """What was pushed meanwhile changes nothing under the retraining that is at work; the next begins with it, and the
    data's commit comes after it. Where others have committed other data, that is told, and nothing is left half-way."""
    with_a_remote(worker, tmp_path)
    other = a_colleague_pushes(tmp_path)
    before, shared = (worker / "LICENSE").read_text(), tmp_path / "shared.git"
    for _ in range(2):
        assert not publish.fn(worker)
        assert (worker / "LICENSE").read_text() == before and git(worker, "log", "--format=%an", "-1") == "worker\n"
        assert git(shared, "log", "--format=%an", "-1", "main") == "colleague\n"
    git(worker, "pull", "-q", "--rebase", "--autostash", "-X", "theirs")
    assert publish.fn(worker)
    assert "newer code" not in git(shared, "show", "main:dvc.lock")
    assert git(shared, "log", "--format=%an", "-2", "main").split() == ["worker", "colleague"]
    assert (worker / "README.md").read_text() == "mine, and not finished"

    git(other, "pull", "-q")
    (other / "data/raw.dvc").write_text("outs: []\n")
    git(other, "commit", "-qam", "Other data")
    git(other, "push", "-q")
    assert publish.fn(worker)  # nothing of its own waits: the next run begins with the other data
    (worker / "data/raw.dvc").write_text((worker / "data/raw.dvc").read_text().replace("md5: ", "md5:  "))
    for _ in range(2):
        with pytest.raises(InputError, match="somebody else has committed another data"):
            publish.fn(worker)
        assert "worker" in git(worker, "log", "--format=%an", "-1")


def test_new_data_is_told_of_once_it_is_out(worker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its commit waits no event starts a retraining, which another clone could not give the data; the next run of
    the flow `ingest` sends it."""
    from flows import ingest

    told: list[str] = []
    for name, work in (("publish", publish.fn), ("take_in", ingest.take_in.fn)):  # outside of a flow run
        monkeypatch.setattr(ingest, name, work)
    monkeypatch.setattr(ingest, "emit_event", lambda event, *_, **__: told.append(event))
    with_a_remote(worker, tmp_path)
    a_colleague_pushes(tmp_path)
    announce(worker, "an earlier version")
    for _ in range(2):
        assert ingest.work()["decision"] == "skipped" and told == []
    git(worker, "pull", "-q", "--rebase", "--autostash", "-X", "theirs")
    assert ingest.work()["decision"] == "ingested" and told == [ingest.CHANGED]
    assert ingest.work()["decision"] == "unchanged" and len(told) == 1


def test_without_a_remote_for_the_bytes_nothing_is_committed(worker: Path) -> None:
    """No commit names bytes that nobody else can get: the error says how to set a remote."""
    head = git(worker, "rev-parse", "HEAD")
    with pytest.raises(InputError, match="dvc remote add -d"):
        publish.fn(worker)
    assert git(worker, "rev-parse", "HEAD") == head
