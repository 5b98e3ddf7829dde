"""Work on all cores: in order, with little in flight, and with errors where they belong."""

import threading
import time
from collections.abc import Iterator

import pytest

from weathervane.parallel import cores, in_order


def test_results_come_in_order() -> None:
    """Whichever item is finished first, results come as the items came."""

    def work(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        return n * n

    assert list(in_order(work, range(60))) == [n * n for n in range(60)]
    assert list(in_order(work, [])) == []


def test_little_is_in_flight() -> None:
    """Of an endless source only a few items a core are drawn ahead: memory stays flat."""
    drawn = 0

    def endless() -> Iterator[int]:
        nonlocal drawn
        while True:
            drawn += 1
            yield drawn

    results = in_order(abs, endless())
    for taken in range(1, 101):
        assert next(results) == taken
        assert drawn <= taken + 4 * cores()
    results.close()
    assert drawn <= 100 + 4 * cores()


def test_errors_reach_the_caller() -> None:
    """An error of the work, or of the source of items, is raised at its place, and no thread is left running."""
    before = threading.active_count()

    def work(n: int) -> float:
        return 1 / (5 - n)

    results = in_order(work, range(100))
    assert [next(results) for _ in range(5)] == [1 / 5, 1 / 4, 1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(in_order(abs, broken()))
    assert threading.active_count() == before
