"""Pages of which parts are written by a command: `<!-- NAME -->`, the part, `<!-- end -->`."""


def page(text: str, found: dict[str, str]) -> str:
    """The page with its marked blocks, of which `found` has some by name, made anew.

    Raises:
        ValueError: an end mark is missing.
    """
    for name, block in found.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if mark:
            _, end, after = rest.partition("<!-- end -->")
            if not end:
                raise ValueError(f"<!-- {name} -->: its <!-- end --> is missing")
            text = "".join([before, mark, block, "\n", end, after])
    return text
