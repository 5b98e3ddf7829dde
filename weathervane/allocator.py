"""What the C library does with memory that is freed."""

import ctypes

LARGEST = 1 << 30  # bytes of a block that is kept
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Memory that this process frees stays with it, where glibc is asked for it.

    By default it goes back to the system, and comes again page by page, zeroed, in the next step of a training:
    4 to 6 % of the time of a `cnn` (1,100 to 2,000 page faults a step on a CPU).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, ctypes.c_int(2**31 - 1))
        mallopt(MMAP_THRESHOLD, ctypes.c_int(LARGEST))
