"""What a process that trains or scores asks of the C libraries."""

import ctypes
import os

from weathervane.parallel import cores, visible

SPINS = "10000"  # of a thread that waits for work; 300,000 by default, which costs a busy machine dearly
KEPT, LESS = 1 << 30, 1 << 25  # bytes of a block, up to which it is kept; an older glibc takes the latter
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def settle() -> None:
    """Threads that wait sleep soon, and memory that is freed stays with the process. Call it before torch is imported.

    torch knows nothing of a container's share of the cores: its threads, one a core, would wait for each other. With
    the time of one of two cores, a step takes 1.6 times as long by two threads as by one (`dnn`), or 1.2 times (`cnn`;
    medians of 10 times 100 or 10 steps, AMD EPYC with AVX2).

    glibc gives freed memory back to the system, and it comes again page by page, zeroed, in a training's next step:
    4 to 6 % of the time of a `cnn` on a CPU, with 1,100 to 2,000 page faults a step. Other C libraries are left alone.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read by libgomp when torch loads it
    if cores() < visible():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and (mallopt(MMAP_THRESHOLD, KEPT) or mallopt(MMAP_THRESHOLD, LESS)):
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
