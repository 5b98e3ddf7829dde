"""What a person sees while they wait: bars on a terminal, plain lines where there is none."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")
Step = Callable[..., None]
PLAIN_EVERY = 10.0  # seconds between two lines where there is no terminal


@cache
def console() -> "Console":
    """The one console that lines and bars share, so that neither tears the other."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line to the person; square brackets are text, not markup."""
    console().print(message, markup=False)


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Step]:
    """Yields `step(count=1, note="")`, which moves the bar on; without a terminal it prints now and then."""
    if console().is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=console(), transient=True) as progress:
            task = progress.add_task(what, total=total, note="")
            yield lambda count=1, note="": progress.update(task, advance=count, note=note)
        return

    done, said = 0, time.monotonic()

    def step(count: int = 1, note: str = "") -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said >= PLAIN_EVERY and done != total:
            said = time.monotonic()
            say(" ".join(filter(None, (f"{what}: {done}" + (f" of {total}" if total else ""), note))))

    yield step


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items, one by one, with a bar."""
    with bar(what, total) as step:
        for item in items:
            yield item
            step()
