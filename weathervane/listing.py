"""Photographs without labels, as a person names them: a folder, an archive, one of them, or a pattern of names."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from weathervane import archives, layout
from weathervane.errors import InputError
from weathervane.sources import Found, names, read, stamp, unpack

Reader = Callable[[], Found]
Done = Callable[[str, str], bool]  # of a file's name and its stamp


@dataclass(frozen=True)
class Listing:
    """Files to score: `names` inside the folder or archive `place`."""

    place: Path
    names: list[str]

    @property
    def side_by_side(self) -> bool:
        """Its files can be read several at once; those of an archive come one after another."""
        return self.place.is_dir()

    def readers(self, seen: Done = lambda *_: False) -> Iterator[Reader]:
        """What reads each file that was not `seen` with its stamp."""
        if self.side_by_side:
            yield from (_reader(self.place, name) for name in self.names if not seen(name, _stamp(self.place / name)))
            return

        def known(path: str, now: str) -> str | None:
            return path if seen(path.removeprefix(f"{self.place}/"), now) else None

        held = names(self.place)  # an archive is read in its own order
        there, asked = set(held), set(self.names)
        for name in self.names:
            if name not in there:
                yield _ready(Found(name, reason="unreadable file", detail="not in the archive any more"))
        wanted = [name for name in held if name in asked]
        for found in unpack(self.place, wanted, dict.fromkeys(wanted), known):
            if not found.sha256:
                yield _ready(found)


def listing(text: str) -> Listing:
    """The files that `text` names; what systems leave behind (.DS_Store and the like) is left out, and texts are unless
    one is named itself.

    Raises:
        InputError: there is no such folder or archive, nothing matches the pattern, or nothing is in it.
    """
    try:
        place, found = _found(text)
    except (ValueError, RuntimeError, OSError) as error:  # a pattern that pathlib refuses, a home that nobody has
        raise InputError(f"{text or repr(text)}: {error}") from None
    asked = place.is_dir() and Path(text).expanduser().is_file()
    kept = [name for name in found if not layout.ignored(name) and (asked or not layout.called_text(name))]
    if not kept:
        raise InputError(f"{text}: no file to score there")
    return Listing(place, kept)


def _found(text: str) -> tuple[Path, list[str]]:
    place = Path(text).expanduser()
    if text and (place.is_dir() or (place.is_file() and archives.is_archive(place))):
        return place, names(place)
    if place.is_file():
        whole = place.resolve()
        return whole.parent, [whole.name]
    if glob.has_magic(text):
        parts = PurePath(place).parts
        fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        place = Path(*parts[:fixed])
        home = place.resolve()
        files = (path for path in place.glob(str(PurePath(*parts[fixed:]))) if not path.is_dir())
        inside = (path for path in files if path.parent.resolve().is_relative_to(home))  # no folder that is a link out
        return place, sorted(path.relative_to(place).as_posix() for path in inside)
    raise InputError("no such folder, zip or tar archive, photograph, or pattern such as 'photos/*.jpg'")


def _reader(place: Path, name: str) -> Reader:
    return lambda: read(place, name, None, lambda path, now: None)


def _ready(found: Found) -> Reader:
    return lambda: found


def _stamp(path: Path) -> str:
    try:
        return stamp(path)
    except OSError:
        return ""
