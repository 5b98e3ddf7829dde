"""Git as the flows call it: with nobody there, and for so long only."""

import socket
from pathlib import Path

import pytest

from tasks import git as module
from tasks.git import ABSENT, LATE, git, git_output
from weathervane.errors import InputError


def test_a_host_that_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is taken and never answered ends at the limit, with a status and a word of its own."""
    monkeypatch.setattr(module, "LIMIT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = git(tmp_path, "ls-remote", f"git://127.0.0.1:{silent.getsockname()[1]}/clone")
    assert done.returncode == LATE and done.stderr == "git ls-remote: no end after 1 s"


def test_without_git_there_is_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has no git the caller gets the shell's status for that, and no error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path, "status").returncode == ABSENT


def test_what_is_not_in_git_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is no clone, a clone without commits and a revision without the file have nothing to read; git
    that takes too long is told."""
    asked = ("log", "--format=%H", "HEAD", "--", "file")
    assert git_output(tmp_path, *asked) == ""
    git(tmp_path, "init", "--quiet")
    assert git_output(tmp_path, *asked) == git_output(tmp_path, "show", "HEAD:file") == ""
    monkeypatch.setattr(module, "LIMIT", 0.0)
    with pytest.raises(InputError, match="git cannot read its history: git log: no end after 0 s"):
        git_output(tmp_path, *asked)
