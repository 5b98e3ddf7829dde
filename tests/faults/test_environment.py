"""Folders that cannot be written to: FAULTS row 18."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from weathervane import project

ROOT = Path(__file__).parents[2]
CHECK = "from pathlib import Path; from weathervane import project; project.check_writable(Path({root!r}))"


def namespaces() -> bool:
    """True if this user may mount things in a namespace of its own."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


@pytest.mark.fault(18)
@pytest.mark.skipif(not namespaces(), reason="needs util-linux's unshare, and the right to use it")
@pytest.mark.parametrize("place", [".", "data", ".weathervane/training"])
def test_a_folder_that_cannot_be_written_to_is_named(place: str, tmp_path: Path) -> None:
    """Each folder that a retraining writes to is looked at before it starts, also where root would be let in."""
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    project.check_writable(tmp_path)
    target = (tmp_path / place).resolve()
    mount = f"mount --bind '{target}' '{target}' && mount -o remount,ro,bind '{target}' && "
    mount += f"exec '{sys.executable}' -c \"$1\""
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", CHECK.format(root=str(tmp_path))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"{target}: cannot be written to: give this user the right to "
                                                 "('chmod u+w', 'chown')")  # fmt: skip
