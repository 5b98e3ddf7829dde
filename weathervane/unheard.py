"""Output that nobody reads any more: a terminal that was closed, a worker that was killed; hours of training go on."""

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


class Unheard:
    """A stream that goes nowhere once its reader is gone or its disk is full, where a plain one would end the process.

    What a reader is too slow for is left out.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of it, or none."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Likewise."""
        self._try(self._stream.flush)

    def _try(self, work: Callable[..., Any], *given: Any) -> None:
        try:
            work(*given)
        except BlockingIOError:
            pass
        except OSError:  # of a closed pipe, a closed terminal, a full disk
            to_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def to_nowhere(stream: TextIO) -> None:
    """Nobody reads the stream any more: what is still to be said there is lost, and the work goes on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def outlive_the_reader() -> None:
    """From now on a reader of this process's output may go. May be called again."""
    from rich.console import Console

    def nowhere(console: Console) -> None:
        console.quiet = True

    # Consoles that hold the plain streams, as Prefect's does; by default the process exits with status 1.
    Console.on_broken_pipe = nowhere  # type: ignore[method-assign, assignment]
    for name in ("stdout", "stderr"):
        if not isinstance(getattr(sys, name), Unheard):
            setattr(sys, name, Unheard(getattr(sys, name)))
