"""Who works at something, and whether that process is gone."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from weathervane.owner import gone, here, me, owner


def test_a_process_is_gone_when_it_has_ended() -> None:
    """While it lives it is not; a killed one is, even where nobody has waited for it yet."""
    child = subprocess.Popen(["sleep", "60"])
    line = owner(child.pid)
    assert not gone(line) and not gone(me())
    child.send_signal(signal.SIGKILL)
    time.sleep(0.2)
    assert gone(line)
    child.wait()
    assert gone(line)


def test_a_later_process_of_the_same_number_is_another() -> None:
    """A number that the kernel gave again, and one from before a reboot, are told from the owner."""
    host, boot, pid, start = me().split(" ")
    assert int(pid) == os.getpid()
    assert gone(f"{host} {boot} {pid} {int(start) - 1}")
    assert gone(f"{host} another-boot {pid} {start}")


def test_of_another_machine_nothing_is_known() -> None:
    """A process of another machine is never taken for gone, nor is an owner that nobody wrote down."""
    assert not gone("elsewhere boot 1 2")
    assert not gone("")


def test_two_machines_of_one_name_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clones on hosts that are both called `localhost` do not end each other's runs; an owner as older versions
    wrote it, without the machine, is still one of this one's."""
    child = subprocess.Popen(["true"])
    ended, now = owner(child.pid), me()
    child.wait()
    node, _, rest = now.partition("/")
    assert here(now) and here(f"{node} {rest.partition(' ')[2]}")
    (tmp_path / "machine-id").write_text("another")
    monkeypatch.setattr("weathervane.owner.MACHINE", tmp_path / "machine-id")
    assert not here(now) and not gone(ended)


@pytest.mark.fault(23)
def test_clocks_do_not_matter(monkeypatch) -> None:
    """An hour back or a day forth, a process is who it was (fault 23)."""
    line = me()
    for shift in (-3600, 86400):
        real = time.time
        monkeypatch.setattr(time, "time", lambda shift=shift, real=real: real() + shift)
        assert me() == line and not gone(line)
        monkeypatch.undo()


def test_somebody_elses_owner_is_nobody_who_is_gone() -> None:
    """A tag of the same name may say anything, even this machine's name."""
    host = me().split(" ")[0]
    assert not gone(host) and not gone(f"{host} somebody") and not gone(f"{host} a b c d")
