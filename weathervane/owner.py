"""Who works at something: a process, told so that nobody takes a later one of the same number for it.

Clocks do not matter: the machine's boot and the process's start are named by what the kernel calls them.
"""

import hashlib
import os
import platform
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
MACHINE = Path("/etc/machine-id")


def me() -> str:
    """This process, in one line."""
    return owner(os.getpid())


def owner(pid: int) -> str:
    """The process `pid` of this machine, in one line: host, boot, number, start."""
    return f"{_host()} {_boot()} {pid} {_start(pid)}"


def in_words(told: str) -> str:
    """The process that an owner line names, for a person."""
    host, _, pid, _ = told.split(" ")
    return f"process {pid} on {host.partition('/')[0]}"


def here(told: str) -> bool:
    """True if the process that an owner line names is one of this machine."""
    return told.partition(" ")[0] in (_host(), platform.node())  # the latter as older versions wrote it


def gone(told: str) -> bool:
    """True if the process that an owner line names is certain to have ended; that of another machine never is."""
    _, *process = told.split(" ")
    if not here(told) or len(process) != 3:  # a tag of that name may be somebody else's
        return False
    boot, pid, start = process
    return boot != _boot() or _start(int(pid)) != start


def _host() -> str:
    """This machine: by its name alone, two that are called `localhost` would be one. The id itself is confidential."""
    try:
        machine = MACHINE.read_bytes().strip()
    except OSError:
        return platform.node()
    return f"{platform.node()}/{hashlib.sha256(machine).hexdigest()[:8]}"


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.is_file() else "boot"


def _start(pid: int) -> str:
    """When it started, in the kernel's ticks since the boot; empty if there is no such process."""
    if BOOT.is_file():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        state, *fields = text.rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    import psutil

    return str(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else ""
