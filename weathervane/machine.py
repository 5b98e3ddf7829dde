"""What a figure was measured on."""

import platform
from pathlib import Path

from weathervane.parallel import cores


def machine() -> str:
    """The processor and the cores that may be used, such as "AMD EPYC, 2 cores"."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{next(models, platform.machine())}, {cores()} cores"
