"""Files are replaced whole: a reader meets the old one or the new one."""

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from weathervane.files import move, replacing, sha256

ROOT = Path(__file__).parents[2]
SHARED = Path("/dev/shm")  # a file system of its own on Linux


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """Text is UTF-8 with the line ends that were written, folders are made, nothing is left beside it."""
    path = tmp_path / "deep/er/x.csv"
    for text in ("old\n", "눈\r\n"):
        with replacing(path) as file:
            file.write(text)
        assert path.read_bytes() == text.encode()
    with replacing(path, "wb") as file:
        file.write(b"\xff")
    assert path.read_bytes() == b"\xff"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """An error half way through changes nothing and leaves nothing behind."""
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write("half of")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    """Killed in the middle of writing, the old file is whole; the next writer succeeds."""
    path = tmp_path / "x.csv"
    path.write_text("old")
    script = (
        "import os, sys; from pathlib import Path; from weathervane.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write('half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced_is_left(
    number: int, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems that know no such thing answer EINVAL, and the file is in its place; a disk that fails is told."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, "fsync")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="fsync") if told else nullcontext(), replacing(tmp_path / "x.csv") as file:
        file.write("new")
    assert (tmp_path / "x.csv").read_text() == "new"


def test_sha256(tmp_path: Path) -> None:
    """The digest that `sha256sum` prints."""
    path = tmp_path / "x"
    data = os.urandom(3_000_000)
    path.write_bytes(data)
    assert sha256(path) == hashlib.sha256(data).hexdigest()


def test_a_folder_moves_to_another_file_system(tmp_path: Path) -> None:
    """Where `.weathervane` is a link to a larger disk: whole, with nothing left behind on either side, there and back,
    also beside what a killed move has left."""
    if not SHARED.is_dir() or SHARED.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip(f"proves nothing within one file system: give pytest a --basetemp that is not on {SHARED}")
    with tempfile.TemporaryDirectory(dir=SHARED) as other:
        here, there = tmp_path / "raw", Path(other) / "aside"
        (here / "rain").mkdir(parents=True)
        (here / "rain/1.jpg").write_bytes(b"1")
        there.with_name("aside.part").mkdir()
        move(here, there)
        assert [path.name for path in Path(other).rglob("*")] == ["aside", "rain", "1.jpg"]
        assert not any(tmp_path.iterdir())
        move(there, here)
        assert (here / "rain/1.jpg").read_bytes() == b"1" and not any(Path(other).iterdir())
