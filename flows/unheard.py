"""Output that nobody reads any more: the worker was killed, and hours of training go on without it."""

import sys

from weathervane.unheard import Unheard


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
