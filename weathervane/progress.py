"""What a person sees while they wait: bars on a terminal, plain lines where there is none; JSON for collectors of logs.

What is said is a record of the logger `weathervane`, so whoever listens to that hears it, too.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, TextIO, TypeVar, cast

from weathervane.errors import masked
from weathervane.unheard import Unheard

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")
Step = Callable[..., None]
WIDE = 10_000  # columns: no cell is broken where nobody's terminal is too narrow for it
PLAIN_EVERY = 10.0  # seconds between two lines where there is no terminal
SETTING = "WEATHERVANE_LOG"  # json: one object a line
_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


def as_json() -> bool:
    """True if the person wants lines that a collector of logs can read."""
    return os.environ.get(SETTING) == "json"


@cache
def console() -> "Console":
    """The one console that lines and bars share, so that neither tears the other."""
    from rich.console import Console

    class Heard(Console):  # rich's own ends the process where nobody reads, and with it hours of training
        @property  # type: ignore[misc]  # rich lets it be set as well, which nobody does here
        def file(self) -> IO[str]:
            return cast(IO[str], Unheard(super().file))

    _escape_what_it_lacks(sys.stdout)
    return Heard(highlight=False, soft_wrap=True)


def _escape_what_it_lacks(stream: TextIO) -> None:
    """What a stream cannot encode, such as a file's name, must not end the work."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def say(message: str, level: int = logging.INFO) -> None:
    """One line to the person, without secrets; square brackets are text, not markup."""
    logger().log(level, "%s", masked(message), extra={"about": _about.get() or {}})


@contextmanager
def about(**known: str) -> Iterator[None]:
    """What the lines of the block are about: step, flow_run, mlflow_run, dataset; fields of a line in JSON."""
    before = _about.set({**(_about.get() or {}), **known})
    try:
        yield
    finally:
        _about.reset(before)


@cache
def logger() -> logging.Logger:
    """The logger of all that is said, which shows it."""
    found = logging.getLogger("weathervane")
    found.setLevel(logging.INFO)
    found.propagate = False  # whoever configures the root logger would show it once more
    found.handlers = [_Shown()]  # one, also where this module is imported anew
    _escape_what_it_lacks(sys.stdout)
    return found


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, as text or as JSON."""
        if as_json():
            stream = Unheard(sys.stdout)
            stream.write(Json().format(record) + "\n")
            stream.flush()
        else:
            console().print(record.getMessage(), markup=False)


class Json(logging.Formatter):
    """A record as one line: time (UTC), level, message, and what else is known of it.

    Any logger's: `dictConfig` may name this class.
    """

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage(), **getattr(record, "about", {})}
        for ours, theirs in (("step", "task_run_name"), ("flow_run", "flow_run_name")):  # as Prefect names them
            if theirs in record.__dict__:
                line[ours] = str(record.__dict__[theirs])
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({key: masked(value) for key, value in line.items()}, ensure_ascii=False)


def tabulate(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table to the person; in JSON a line for each row."""
    if as_json():
        for row in rows:
            say("; ".join(f"{name}: {cell}" for name, cell in zip(head, row, strict=True) if cell))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(masked, row))
    screen = console()
    if screen.is_terminal:
        screen.print(table)
        return
    usual, screen.width = screen.width, WIDE
    try:
        screen.print(table)
    finally:
        screen.width = usual


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Step]:
    """Yields `step(count=1, note="")`, which moves the bar on; without a terminal it prints now and then."""
    if console().is_terminal and not as_json():
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
