"""What a worker does to its clone before a run: newer code, but never under a retraining or on other packages."""

import subprocess
from pathlib import Path

import pytest

from flows.clone import bring_up_to_date
from tasks.alone import alone


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
    commit(ours, {"code.py": "1", "requirements.lock": "torch==1", "data/raw.dvc": "a", "dvc.lock": "a"})
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
    """What was committed meanwhile is there, also where retrainings have brought data in, which changes two files."""
    ours, theirs = clones
    (theirs / "data/raw.dvc").write_text("b")
    (theirs / "dvc.lock").write_text("b")
    commit(ours, {"code.py": "2"})
    assert bring_up_to_date(theirs) == {"directory": str(theirs)}
    assert (theirs / "code.py").read_text() == "2" and (theirs / "dvc.lock").read_text() == "b"


def test_data_that_the_clone_has_committed_comes_on_top(clones: tuple[Path, Path]) -> None:
    """As where somebody pushed code while a retraining brought data in: the next run has both."""
    ours, theirs = clones
    commit(theirs, {"data/raw.dvc": "b", "dvc.lock": "b"})
    commit(ours, {"code.py": "2"})
    bring_up_to_date(theirs)
    assert (theirs / "code.py").read_text() == "2" and (theirs / "dvc.lock").read_text() == "b"
    assert git(theirs, "rev-list", "--count", "@{upstream}..HEAD") == "1\n"


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


def test_work_that_is_not_committed_is_left_alone(
    clones: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is pulled over it, and that is said."""
    ours, theirs = clones
    (theirs / "code.py").write_text("mine")
    commit(ours, {"code.py": "2"})
    bring_up_to_date(theirs)
    assert (theirs / "code.py").read_text() == "mine"
    assert "has changes that are not committed: left as it is" in capsys.readouterr().out


def test_code_does_not_change_under_a_retraining(clones: tuple[Path, Path]) -> None:
    """An inbox that is looked at meanwhile does not bring newer code; the next run does."""
    ours, theirs = clones
    commit(ours, {"code.py": "2"})
    with alone(theirs):
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
