"""Output that nobody reads any more: the worker was killed, and hours of training go on without it."""

import sys
from typing import Any

from weathervane.progress import to_nowhere


class Unheard:
    """A stream that goes nowhere once its reader is gone, where a plain one would end the process."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of it, or none."""
        try:
            self._stream.write(text)
        except BrokenPipeError:
            to_nowhere(self._stream)
        return len(text)

    def flush(self) -> None:
        """Likewise."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            to_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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
