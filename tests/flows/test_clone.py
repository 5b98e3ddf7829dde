"""What a worker does to its clone before a run: newer code, but never under a retraining or on other packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.clone import bring_up_to_date
from flows.environment import told_in_prefect
from tasks.locks import retrain_lock
from tests.conftest import copy_project

ROOT = Path(__file__).parents[2]


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@e", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Path, Path]:
    """A repository that somebody works in, and the worker's clone of it."""
    ours, theirs = tmp_path / "ours", tmp_path / "worker"
    (ours / "data").mkdir(parents=True)
    git(ours, "init", "-q")
    files = {"code.py": "1", "requirements.lock": "torch==1", "data/raw.dvc": "a", "dvc.lock": "a\nb\nc\nd\n"}
    commit(ours, files | {".gitattributes": (ROOT / ".gitattributes").read_text()})
    git(tmp_path, "clone", "-q", str(ours), str(theirs))
    for name, value in (("user.name", "worker"), ("user.email", "worker@example.org")):
        git(theirs, "config", name, value)
    (theirs / ".venv").mkdir()
    (theirs / ".git/info/exclude").write_text(".venv\n")
    (theirs / ".venv/ready").write_text("torch==1")
    return ours, theirs


def commit(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "work")


def test_the_newest_code_runs(clones: tuple[Path, Path]) -> None:
    """What was committed meanwhile is there, also where retrainings have brought data in, which changes two files. The
    clone's dvc.lock stays as it is, whatever has come of the others': its data was made by the code that it names."""
    ours, theirs = clones
    (theirs / "data/raw.dvc").write_text("b")
    (theirs / "dvc.lock").write_text("a\nb\nc\nmine\n")
    for number in ("2", "3"):
        commit(ours, {"code.py": number, "dvc.lock": f"{number}\nb\nc\nd\n"})
        assert bring_up_to_date(theirs) == {"directory": str(theirs)}
        assert (theirs / "code.py").read_text() == number
        assert (theirs / "dvc.lock").read_text() == "a\nb\nc\nmine\n"
        assert git(theirs, "status", "--porcelain", "-uno").split() == ["M", "data/raw.dvc", "M", "dvc.lock"]


def test_data_that_the_clone_has_committed_comes_on_top(clones: tuple[Path, Path]) -> None:
    """As where somebody pushed code while a retraining brought data in: the next run has both."""
    ours, theirs = clones
    commit(theirs, {"data/raw.dvc": "b", "dvc.lock": "a\nb\nc\nmine\n"})
    commit(ours, {"code.py": "2", "dvc.lock": "2\nb\nc\nd\n"})
    bring_up_to_date(theirs)
    assert (theirs / "code.py").read_text() == "2" and (theirs / "dvc.lock").read_text() == "a\nb\nc\nmine\n"
    assert git(theirs, "rev-list", "--count", "@{upstream}..HEAD") == "1\n"


def test_a_dvc_lock_that_is_gone_comes_back(clones: tuple[Path, Path]) -> None:
    """Somebody has deleted it: no run stops at that, and the data is prepared by what git has."""
    ours, theirs = clones
    (theirs / "dvc.lock").unlink()
    commit(ours, {"code.py": "2"})
    bring_up_to_date(theirs)
    assert (theirs / "code.py").read_text() == "2" and (theirs / "dvc.lock").is_file()


@pytest.mark.parametrize(("mine", "theirs_now"), [("data/raw.dvc", "data/raw.dvc"), ("mine.py", "code.py")])
def test_what_only_a_person_can_bring_together_is_left_alone(
    clones: tuple[Path, Path], capsys: pytest.CaptureFixture[str], mine: str, theirs_now: str
) -> None:
    """Data that two have committed, or commits of a person's own: that is said, and the clone is as it was."""
    ours, theirs = clones
    commit(theirs, {mine: "b"})
    commit(ours, {theirs_now: "c"})
    head = git(theirs, "rev-parse", "HEAD")
    bring_up_to_date(theirs)
    assert git(theirs, "rev-parse", "HEAD") == head and git(theirs, "status", "--porcelain", "-uno") == ""
    assert "could not be brought up to date" in capsys.readouterr().out


def test_a_run_has_the_newer_code_alone(tmp_path: Path) -> None:
    """What the pull step itself imported is imported anew by the flow, so a function that came with it is there."""
    ours = copy_project(tmp_path)
    theirs = tmp_path / "worker"
    git(tmp_path, "clone", "-q", str(ours), str(theirs))
    with (ours / "weathervane/files.py").open("a") as file:
        file.write("\n\ndef brand_new() -> int:\n    return 7\n")
    git(ours, "commit", "-qam", "work")
    code = (
        "from flows.clone import bring_up_to_date as up; up(); from weathervane.files import brand_new as new; up(); "
    )
    told = subprocess.run(
        [sys.executable, "-c", f"{code}print(new())"],
        cwd=theirs, env=os.environ | {"PYTHONPATH": str(theirs)}, capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout == "7\n", told.stderr


@pytest.mark.filterwarnings("ignore:Logger 'weathervane' attempted to send logs:UserWarning")  # no flow runs here
def test_work_that_is_not_committed_is_left_alone(
    clones: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pulled over it, and that is said: by the pull step, and by the flow that follows it, whose page shows
    what flows say."""
    monkeypatch.setattr(os, "environ", os.environ.copy())  # a flow sets what servers of later tests would inherit
    ours, theirs = clones
    (theirs / "code.py").write_text("mine")
    commit(ours, {"code.py": "2"})
    bring_up_to_date(theirs)
    assert (theirs / "code.py").read_text() == "mine"
    for _ in range(2):
        assert capsys.readouterr().out.count("has changes that are not committed: left as it is") == 1
        with told_in_prefect():
            pass
    assert capsys.readouterr().out == ""


def test_code_does_not_change_under_a_retraining(clones: tuple[Path, Path]) -> None:
    """An inbox that is looked at meanwhile does not bring newer code; the next run does."""
    ours, theirs = clones
    commit(ours, {"code.py": "2"})
    with retrain_lock(theirs):
        bring_up_to_date(theirs)
        assert (theirs / "code.py").read_text() == "1"
    bring_up_to_date(theirs)
    assert (theirs / "code.py").read_text() == "2"


def test_code_that_wants_other_packages_does_not_run_until_they_are_there(clones: tuple[Path, Path]) -> None:
    """Every run is refused until `make setup`, not only the one that brought the new lock."""
    ours, theirs = clones
    commit(ours, {"requirements.lock": "torch==2"})
    for _ in range(2):
        with pytest.raises(RuntimeError, match="run 'make setup' there"):
            bring_up_to_date(theirs)
    (theirs / ".venv/ready").write_text("torch==2")
    bring_up_to_date(theirs)
