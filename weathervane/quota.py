"""What a container, or a service with limits, may use of its machine: control groups of Linux, both generations."""

import math
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def processors() -> float:
    """How many processors' time comes to the share of it that is allowed; infinite without a limit."""
    older = (_read(GROUPS / "cpu" / f"cpu.cfs_{what}_us") for what in ("quota", "period"))
    told = (text.partition(" ") for text in [*_around("cpu.max"), " ".join(older)])
    return min((int(share) / int(period) for share, _, period in told if share.isdigit()), default=math.inf)


def memory() -> float:
    """Bytes that are allowed; infinite without a limit."""
    told = [*_around("memory.max"), _read(GROUPS / "memory/memory.limit_in_bytes")]
    return min((int(text) for text in told if text.isdigit()), default=math.inf)


def _around(name: str) -> list[str]:
    """What stands in the file of this process's group and of those around it."""
    lines = _read(OWN).splitlines()
    own = GROUPS / next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "").strip("/")
    return [_read(folder / name) for folder in (own, *own.parents) if folder.is_relative_to(GROUPS)]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
