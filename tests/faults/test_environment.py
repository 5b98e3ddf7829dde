"""Folders that cannot be written to: fault 18."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import environment
from weathervane import project as layout

ROOT = Path(__file__).parents[2]
CHECK = "from pathlib import Path; from weathervane import project; project.check_writable(Path({root!r}))"
PLACES = [".", "data", ".weathervane/training"]
# Before a command: it then has the rights of anybody, whoever runs the tests.
AS_ANYBODY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
# Root may write everywhere: without the means to be anybody else there is nothing to see.
by_anybody = pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root, and no setpriv: install util-linux"
)


def namespaces() -> bool:
    """True if this user may mount things in a namespace of its own."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


def check(root: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Look at the folders of `root` in a process that this command starts."""
    code = CHECK.format(root=str(root))
    return subprocess.run([*command, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def told(place: Path) -> str:
    return f"{place.resolve()}: cannot be written to: give this user the right to ('chmod u+w', 'chown')"


@pytest.mark.fault(18)
@by_anybody
@pytest.mark.parametrize("place", PLACES)
def test_an_ordinary_user_is_told_of_a_folder_without_the_right_to_write(place: str, tmp_path: Path) -> None:
    """A folder of mode 555 is named before anything starts, with what to do; with the right to write all is well."""
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place).chmod(0o555)
    done = check(tmp_path.resolve(), *AS_ANYBODY)
    (tmp_path / place).chmod(0o755)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(told(tmp_path / place))
    assert check(tmp_path.resolve(), *AS_ANYBODY).returncode == 0


@pytest.mark.fault(18)
@pytest.mark.skipif(not namespaces(), reason="needs util-linux's unshare, and the right to use it")
@pytest.mark.parametrize("place", PLACES)
def test_a_file_system_that_is_read_only_is_named(place: str, tmp_path: Path) -> None:
    """Each folder that a retraining writes to is looked at before it starts, also where root would be let in."""
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    layout.check_writable(tmp_path)
    target = (tmp_path / place).resolve()
    mount = f"mount --bind '{target}' '{target}' && mount -o remount,ro,bind '{target}' && exec \"$@\""
    done = check(tmp_path, "unshare", "-rm", "sh", "-c", mount, "sh")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(told(target))


@by_anybody
def test_commands_that_write_a_little_name_what_they_may_not(project: Path) -> None:
    """In a clone that belongs to somebody else a command ends with the file and what to do, as bad input does."""
    (project / ".weathervane").mkdir(mode=0o555)
    command = [*AS_ANYBODY, sys.executable, "-m", "flows.cli", "rollback"]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True)
    (project / ".weathervane").chmod(0o755)
    place = f"{project}/.weathervane/locks"
    told = f"weathervane: {place}: Permission denied: give this user the right to ('chmod', 'chown')\n"
    assert (done.returncode, done.stderr) == (2, told)


@pytest.mark.fault(18)
@by_anybody
def test_a_class_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It is never passed over in silence: the source is refused, with the folder's name; but for what systems keep."""
    for label in ("rain", "sun", "lost+found"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(b"x")
    code = f"from pathlib import Path; from weathervane.sources import names; print(names(Path({str(tmp_path)!r})))"

    def names() -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*AS_ANYBODY, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    (tmp_path / "lost+found").chmod(0)
    there = names()
    (tmp_path / "rain").chmod(0)
    refused = names()
    for label in ("rain", "lost+found"):
        (tmp_path / label).chmod(0o755)
    assert there.stdout == "['rain/1.jpg', 'sun/1.jpg']\n", there
    assert refused.returncode == 1
    assert f"source {tmp_path}/rain: Permission denied" in refused.stderr.splitlines()[-1]
