"""What a figure was measured on."""

import platform
from pathlib import Path

from weathervane.parallel import cores

VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}  # flag → name, the fastest first


def machine() -> str:
    """The processor and the cores that may be used, such as "AMD EPYC with AVX2, 2 cores"."""
    return f"{processor()}, {cores()} cores"


def processor() -> str:
    """Its name, and how wide it computes: of one name, some train twice as fast as others."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    flags = known.get("flags", known.get("Features", "")).split()
    vectors = next((f" with {name}" for flag, name in VECTORS.items() if flag in flags), "")
    return f"{known.get('model name', platform.machine())}{vectors}"
