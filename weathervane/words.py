"""Figures and tables as people read them."""

from collections.abc import Iterable, Mapping, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, a line a row under the head."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def with_interval(value: float, low: float, high: float) -> str:
    """A value and the ends of its interval: 0.938 (0.862–0.973)."""
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def by_class(counts: Mapping[str, int]) -> str:
    """How many of each class: 12 rain, 30 shine; 12 '7', where names are numbers."""
    names = {label: repr(label) if label[:1].isdigit() else label for label in counts}
    return ", ".join(f"{count:,} {names[label]}" for label, count in sorted(counts.items()))


def brief(name: str, most: int) -> str:
    """A name in so many characters: its beginning and its end, where names of one kind differ."""
    most = max(most, 5)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}"


def listed(parts: Sequence[str], most: int) -> str:
    """The first of them, and how many there are besides."""
    more = len(parts) - most
    return ", ".join(parts[:most]) + (f" and {more} more" if more > 0 else "")
