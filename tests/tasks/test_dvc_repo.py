"""A data step that records with DVC, against `dvc repro` on the same project."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.lock import LockError

from tasks import dvc_repo
from tasks.dvc_lock import md5, raw_md5, stale_because, tracked_dataset
from tasks.dvc_repo import add, bring_up_to_date, fetch
from tests.conftest import copy_project
from weathervane import params
from weathervane.errors import InputError
from weathervane.ingest import Ingest, ingest
from weathervane.params import load
from weathervane.prepare import Prepare, prepare
from weathervane.store import Store


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with 4 x 10 images in data/raw, which nothing tracks yet. Read only."""
    root = copy_project(tmp_path_factory.mktemp("ingested"))
    content = params.read(root / "params/ingest.yaml")
    content["sources"] = [{"kind": "synthetic", "per_class": 10, "seed": 0}]
    ingest(Ingest.model_validate(content), root)
    return root


@pytest.fixture
def mine(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same project with data/raw tracked, to be changed; the working folder."""
    root = shutil.copytree(ingested, tmp_path / "mine")
    monkeypatch.chdir(root)
    add(root, "data/raw", {"dataset": "weather-synthetic"})
    return root


def test_a_lock_that_is_not_given_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some patience, in words and not as a traceback."""
    monkeypatch.setattr(dvc_repo, "PATIENCE", 0.0)

    def work() -> None:
        raise LockError("held")

    with pytest.raises(InputError, match=r"^another process has worked on this DVC repository"):
        dvc_repo._patiently(work)


def step(root: Path, done: list[str] | None = None) -> Callable[[], object]:
    """The step `prepare`, which notes in `done` that it ran."""

    def work() -> None:
        if done is not None:
            done.append("ran")
        prepare(load(Prepare, root / "params/prepare.yaml"), root)

    return work


def edit(root: Path, old: str, new: str) -> None:
    path = root / "params/prepare.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def repro(root: Path) -> None:
    """What `dvc repro prepare` does, on the command line too."""
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo(str(root)) as repo:
        repo.reproduce(["prepare"])


def dvc_finds_stale(root: Path) -> bool:
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo(str(root)) as repo:
        return bool(repo.status(["prepare"]))


def git(root: Path, *arguments: str) -> None:
    own = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *own, *arguments], cwd=root, check=True, capture_output=True)


@pytest.mark.slow
def test_the_record_is_byte_for_byte_that_of_dvc_repro(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a person or a retraining prepares the data makes no difference: first, after a change, and back again."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # of its `python`
    theirs = shutil.copytree(mine, tmp_path / "theirs")
    for old, new in (("4096", "4096"), ("4096", "16"), ("16", "4096")):
        edit(mine, old, new)
        edit(theirs, old, new)
        repro(theirs)
        assert bring_up_to_date(mine, "prepare", step(mine))
        assert (mine / "dvc.lock").read_bytes() == (theirs / "dvc.lock").read_bytes()
        assert md5(mine / "data/prepared") == md5(theirs / "data/prepared")
        assert not dvc_finds_stale(mine)
        assert bring_up_to_date(theirs, "prepare", step(theirs)) is None


@pytest.mark.parametrize(("old", "new"), [("4096", "16"), ("96", "32")], ids=["shard", "pixels"])
def test_what_was_prepared_before_comes_out_of_the_cache(mine: Path, old: str, new: str) -> None:
    """Going back to earlier parameters takes no second computation, and gives the earlier data; new ones are obeyed."""
    done: list[str] = []
    bring_up_to_date(mine, "prepare", step(mine, done))
    record, before = (mine / "dvc.lock").read_bytes(), md5(mine / "data/prepared")
    edit(mine, old, new)
    bring_up_to_date(mine, "prepare", step(mine, done))
    assert done == ["ran", "ran"]
    assert md5(mine / "data/prepared") != before
    edit(mine, new, old)
    assert "found in DVC's cache" in str(bring_up_to_date(mine, "prepare", step(mine, done)))
    assert done == ["ran", "ran"]
    assert md5(mine / "data/prepared") == before
    assert (mine / "dvc.lock").read_bytes() == record
    assert stale_because(mine, "prepare") is None


def test_a_damaged_output_is_put_right(mine: Path) -> None:
    """Pixels that were edited or lost are not trained on: the recorded ones come back."""
    done: list[str] = []
    bring_up_to_date(mine, "prepare", step(mine, done))
    before = md5(mine / "data/prepared")
    next((mine / "data/prepared").rglob("*.npy")).write_bytes(b"half")
    assert "found in DVC's cache" in str(bring_up_to_date(mine, "prepare", step(mine, done)))
    shutil.rmtree(mine / "data/prepared")
    assert "found in DVC's cache" in str(bring_up_to_date(mine, "prepare", step(mine, done)))
    assert (md5(mine / "data/prepared"), done) == (before, ["ran"])


def test_a_second_clone_is_served_by_the_remote(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `dvc push`, a colleague's fresh clone gets the images and the prepared data without computing anything."""
    from dvc.repo import Repo

    bring_up_to_date(mine, "prepare", step(mine))
    config = (mine / ".dvc/config").read_text().replace("[core]\n", "[core]\n    remote = shared\n")
    (mine / ".dvc/config").write_text(f"{config}['remote \"shared\"']\n    url = {tmp_path / 'remote'}\n")
    with Repo(str(mine)) as repo:
        repo.push()
    git(mine, "add", "-A")
    git(mine, "commit", "-qm", "data")
    git(tmp_path, "clone", "-q", str(mine), "clone")
    clone = tmp_path / "clone"
    monkeypatch.chdir(clone)
    assert fetch(clone, "data/raw")
    assert md5(clone / "data/raw") == raw_md5(clone) == raw_md5(mine)
    done: list[str] = []
    bring_up_to_date(clone, "prepare", step(clone, done))
    assert done == []
    assert md5(clone / "data/prepared") == md5(mine / "data/prepared")
    git(clone, "diff", "--exit-code")


def test_data_that_nobody_has_is_not_brought_back(mine: Path) -> None:
    """Images that neither the cache nor a remote holds are reported missing; there is no half-filled folder."""
    shutil.rmtree(mine / "data/raw")
    assert fetch(mine, "data/raw")
    shutil.rmtree(mine / "data/raw")
    shutil.rmtree(mine / ".dvc/cache")
    assert not fetch(mine, "data/raw")


def test_an_image_that_arrives_while_the_step_works_is_not_recorded_as_seen(mine: Path) -> None:
    """The record never claims an image that the prepared data lacks: the step is told to run again."""
    bring_up_to_date(mine, "prepare", step(mine))
    before = (mine / "dvc.lock").read_bytes()
    edit(mine, "4096", "16")

    def work() -> None:
        step(mine)()
        (mine / "data/raw/late.jpg").write_bytes(b"late")

    with pytest.raises(InputError, match="data/raw changed while prepare ran"):
        bring_up_to_date(mine, "prepare", work)
    assert (mine / "dvc.lock").read_bytes() == before
    (mine / "data/raw/late.jpg").unlink()
    bring_up_to_date(mine, "prepare", step(mine))
    assert stale_because(mine, "prepare") is None


def test_a_step_that_fails_leaves_the_record_as_it_was(mine: Path) -> None:
    """After a failure, the next retraining runs the step again."""
    bring_up_to_date(mine, "prepare", step(mine))
    before = (mine / "dvc.lock").read_bytes()
    edit(mine, "4096", "16")

    def work() -> None:
        (mine / "data/prepared").mkdir(exist_ok=True)
        (mine / "data/prepared/manifest.parquet").write_bytes(b"half")
        raise InputError("disk full")

    with pytest.raises(InputError, match="disk full"):
        bring_up_to_date(mine, "prepare", work)
    assert (mine / "dvc.lock").read_bytes() == before
    assert stale_because(mine, "prepare")
    bring_up_to_date(mine, "prepare", step(mine))
    assert len(Store(mine / "data/prepared").manifest["sha256"]) == 40


def test_dvc_can_be_asked_while_the_step_works(mine: Path) -> None:
    """`dvc status` in another terminal answers during a long step."""
    from dvc.repo import Repo

    seen: list[object] = []

    def work() -> None:
        with Repo(str(mine)) as repo:
            seen.append(repo.status(["prepare"]))
        step(mine)()

    bring_up_to_date(mine, "prepare", work)
    assert seen and seen[0]


@pytest.mark.slow
def test_another_process_that_holds_dvcs_lock_is_waited_for(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A `dvc push` in another terminal delays a retraining, and does not break it."""
    from dvc.repo import Repo

    other = Repo(str(mine))
    other.lock.lock()
    release = threading.Timer(6, other.lock.unlock)
    release.start()
    bring_up_to_date(mine, "prepare", step(mine))
    assert "waiting for another process" in capsys.readouterr().out
    assert stale_because(mine, "prepare") is None
    release.join()


def test_the_dvc_file_keeps_the_datasets_name(mine: Path) -> None:
    """Each version of data/raw says which dataset it is, in the file that git tracks."""
    first = raw_md5(mine)
    (mine / "data/raw/new.txt").write_text("new")
    assert add(mine, "data/raw", {"dataset": "weather-synthetic"}) == raw_md5(mine) == md5(mine / "data/raw") != first
    assert tracked_dataset(mine) == "weather-synthetic"
    add(mine, "data/raw", {"dataset": "weather"})
    assert tracked_dataset(mine) == "weather"


def test_it_works_from_a_folder_inside_the_project(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person may stand in params/ when they start a retraining."""
    monkeypatch.chdir(mine / "params")
    shutil.rmtree(mine / "data/raw")
    assert fetch(mine, "data/raw")
    assert add(mine, "data/raw", {"dataset": "weather-synthetic"}) == md5(mine / "data/raw")
    bring_up_to_date(mine, "prepare", step(mine))
    assert stale_because(mine, "prepare") is None


def test_a_folder_without_dvc_is_told(tmp_path: Path) -> None:
    """Who downloaded the code without .dvc/ reads what to do."""
    with pytest.raises(InputError, match="run 'dvc init'"):
        add(tmp_path, "data/raw", {})
