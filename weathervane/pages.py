"""Pages that need nothing but themselves: a template beside this file, and pictures within the page."""

import base64
from pathlib import Path


def rendered(template: str, **content: object) -> str:
    """A page of the file `template`; a name that the template uses and nobody gave is an error."""
    from jinja2 import Environment, StrictUndefined

    # Names of files and classes are what a stranger chose: all of them are escaped, because everything is.
    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters["number"] = lambda number: f"{number:,}"
    pages.filters["percent"] = lambda part, whole: f"{100 * part / max(whole, 1):.1f}"
    source = Path(__file__).with_name(template).read_text(encoding="utf-8")
    return pages.from_string(source).render(content)


def data_uri(kind: str, content: bytes) -> str:
    """An image of the kind (png, jpeg) for a page's `src`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
