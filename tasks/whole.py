"""Calls that neither Ctrl-C nor SIGTERM cuts in two.

Python raises a signal's exception between any two steps of the main thread, and in no other thread. In the middle of
MLflow's transaction it left the database locked for as long as the process lived, which could then not even close its
own runs; or SQLAlchemy's weak references swallowed it, as if nobody had pressed anything. Of 440 signals into a loop of
`log_batch` 16 did the one and 10 the other (AMD EPYC with AVX2; tests/tasks/test_whole.py sends such signals).
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Thread, current_thread, main_thread
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
T = TypeVar("T")


def whole(work: Callable[Given, T], *arguments: Given.args, **named: Given.kwargs) -> T:
    """What `work` returns; if a signal ends the waiting for it, it still comes to its end."""
    if current_thread() is not main_thread():
        return work(*arguments, **named)
    done: Future[T] = Future()

    def apart() -> None:
        try:
            done.set_result(work(*arguments, **named))
        except BaseException as error:
            done.set_exception(error)

    Thread(target=apart).start()  # no executor: a signal while its thread starts leaves one that waits for ever
    return done.result()


class Whole:
    """A client whose every call is whole."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return partial(whole, found) if callable(found) else found
