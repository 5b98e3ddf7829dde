"""The locks of a clone: who comes second waits for the first, or is told."""

import threading
from pathlib import Path

from tasks.locks import BACKUP, lock, retrain_lock, waited_for
from weathervane import project


def test_a_second_retraining_waits_for_the_first(tmp_path: Path) -> None:
    """A second retraining that waits begins when the first ends; one that does not wait is told so, and takes nobody's
    lock away."""
    order: list[bool] = []

    def second(wait: bool) -> None:
        with retrain_lock(tmp_path, wait) as mine:
            order.append(mine)

    def start(wait: bool) -> threading.Thread:
        thread = threading.Thread(target=second, args=(wait,))
        thread.start()
        thread.join(0.3 if wait else 10)
        return thread

    with retrain_lock(tmp_path):
        assert (tmp_path / project.LOCKS / "retrain.holder").is_file()
        start(False)
        assert order == [False]
        waiting = start(True)
        assert waiting.is_alive() and order == [False]
    waiting.join(10)
    assert order == [False, True] and not (tmp_path / project.LOCKS / "retrain.holder").exists()


def test_a_backup_waits_for_another(tmp_path: Path) -> None:
    """A second backup begins when the first has ended, which holds the lock while it works."""
    order: list[str] = []

    def second() -> None:
        with waited_for(lock(tmp_path, BACKUP), "another backup"):
            order.append("second")

    with waited_for(lock(tmp_path, BACKUP), "another backup"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
