"""What a process asks of Python and of the C libraries before it loads the heavy ones."""

import ctypes
import gc
import os

from weathervane.parallel import cores, visible

# Of a thread that waits for work; 300,000 by default. Beside a busy process on two cores an epoch of cnn takes 3.4,
# 2.2, 1.8 s with 10,000, 3,000, 1,000, of dnn 0.53, 0.31, 0.21 s; alone 0.70 s with each, and 0.102, 0.100, 0.112 s
# (medians of 2 to 24 epochs, twice, AMD EPYC with AVX-512).
SPINS = "3000"
KEPT, LESS = 1 << 30, 1 << 25  # bytes of a block, up to which it is kept; an older glibc takes the latter
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MADE = 10_000  # objects before the collector looks for cycles among them; 700 by default


def collect_seldom() -> None:
    """Imports make objects by the hundred thousand, and free few: without this, a tenth of their time is the search.

    Of Prefect with our flows, MLflow with its store, torch with `fit`: 2.6 instead of 2.9, 4.4 instead of 4.8, 3.2
    instead of 3.6 s (medians of 6, AMD EPYC with AVX2, 2 cores).
    """
    gc.set_threshold(MADE)


def settle() -> None:
    """Of one that trains or scores: threads that wait sleep soon, and memory that is freed stays with the process. Call
    it before torch is imported.

    torch knows nothing of a container's share of the cores: its threads, one a core, would wait for each other. With
    the time of one of two cores, a step takes 1.6 times as long by two threads as by one (`dnn`), or 1.2 times (`cnn`;
    medians of 10 times 100 or 10 steps, AMD EPYC with AVX2).

    glibc gives freed memory back to the system, and it comes again page by page, zeroed, in a training's next step:
    4 to 6 % of the time of a `cnn` on a CPU, with 1,100 to 2,000 page faults a step. Other C libraries are left alone.
    """
    collect_seldom()
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read by libgomp when torch loads it
    if cores() < visible():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt and (mallopt(MMAP_THRESHOLD, KEPT) or mallopt(MMAP_THRESHOLD, LESS)):
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
