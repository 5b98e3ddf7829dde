"""Work on several cores, in threads: Pillow's decoders and filters release the interpreter's lock."""

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from weathervane import quota

Item = TypeVar("Item")
T = TypeVar("T")
THREADS = 8  # at most: 16 on 16 cores decode a seventh less a second, waiting for Python's lock (docs/log.md)


def cores() -> int:
    """Cores that this process may use, or as many as a container's share of their time comes to."""
    return math.ceil(min(visible(), quota.processors()))


def visible() -> int:
    """Cores that this process may be put on, as C libraries count them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Item], T], items: Iterable[Item], ahead: int | None = None, threads: int | None = None
) -> Generator[T, None, None]:
    """Results in the order of the items; at most `ahead` of them (four a thread) are in flight: memory stays flat.

    Args:
        threads: as many as there are cores, but THREADS at most.
    """
    threads = threads or min(cores(), THREADS)
    most = ahead or 4 * threads
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
