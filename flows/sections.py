"""The commands in `weathervane --help`, by what they are for."""

from collections import defaultdict
from typing import Any

from typer.core import TyperGroup


class Sections(TyperGroup):
    """Lists commands under the heading that each has as its `rich_help_panel`, without loading rich."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As typer does without rich, a section for each heading."""
        sections = defaultdict[str, list[tuple[str, str]]](list)
        widest = max(map(len, self.commands))
        for name, command in self.commands.items():
            told = command.get_short_help_str(formatter.width - 6 - widest)
            sections[str(getattr(command, "rich_help_panel"))].append((name.ljust(widest), told))  # noqa: B009
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
