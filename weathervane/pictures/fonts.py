"""Characters that matplotlib's own font lacks, such as those of classes with Chinese names."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LACKING = re.compile(r"Glyph (\d+) .*missing from", re.DOTALL)


@contextmanager
def lacking() -> Iterator[set[int]]:
    """The code points of which a figure that is drawn meanwhile shows boxes; only those who draw know, and warn."""
    found = set[int]()
    with warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", LACKING.pattern)
        yield found
    for one in told:
        if match := LACKING.match(str(one.message)):
            found.add(int(match[1]))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def complete(figure: "Figure", points: set[int]) -> None:
    """Have its texts use, after their own font, installed ones that have these code points, where there are any."""
    from matplotlib.text import Text

    others = _families(frozenset(points))
    for text in figure.findobj(Text):
        text.set_fontfamily([*text.get_fontfamily(), *others])


@cache
def _families(points: frozenset[int]) -> list[str]:
    """As few as it takes. The disk is searched as well: matplotlib's list is of the day on which it was made."""
    from matplotlib.font_manager import findSystemFonts, fontManager
    from matplotlib.ft2font import FT2Font

    families, known = [], {font.fname for font in fontManager.ttflist}
    for path in sorted({*known, *findSystemFonts()}):
        with suppress(OSError, RuntimeError):  # a file that is no font that can be drawn
            font = FT2Font(path)
            if "lastresort" in font.family_name.replace(" ", "").lower():
                continue  # it has a box for everything
            if has := points & font.get_charmap().keys():
                if path not in known:
                    fontManager.addfont(path)
                families.append(font.family_name)
                points -= has
        if not points:
            break
    return families
