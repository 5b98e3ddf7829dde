"""Where a command hears that servers are up in its clone."""

from pathlib import Path

import pytest

from flows.beside import NOTE, hint, noted
from tests.conftest import copy_project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = copy_project(tmp_path)
    (root / NOTE).parent.mkdir()
    monkeypatch.chdir(root / "params")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return root


def test_told_only_while_they_are_up(root: Path) -> None:
    """From any folder of the clone; and of servers that were killed, with their note left behind, nothing is said."""
    with noted(root, "export A=1"):
        assert hint().endswith("first: export A=1")
        who, exports = (root / NOTE).read_text().splitlines()
    assert not hint()
    (root / NOTE).write_text(f"{who}0\n{exports}\n")  # a process of that number that started at another time
    assert not hint()


@pytest.mark.parametrize("content", ["", "\n", "only one line", "host\nexport A=1", "\xff\xfe"])
def test_a_damaged_note_disturbs_nothing(root: Path, content: str) -> None:
    """Whatever stands in the file, the command goes on."""
    (root / NOTE).write_bytes(content.encode("latin-1"))
    hint()
