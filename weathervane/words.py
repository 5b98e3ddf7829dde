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
    """How many of each class: 12 rain, 30 shine."""
    return ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
