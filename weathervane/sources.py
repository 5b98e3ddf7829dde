"""Where photographs come from. A new kind of source is one schema here, with `title`, `state`, `files` and `count`."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zipfile import is_zipfile

from pydantic import Field

from weathervane import archives, images, layout, params, project, synthetic
from weathervane.download import fetch
from weathervane.errors import InputError
from weathervane.files import sha256
from weathervane.ledger import SYNTHETIC
from weathervane.params import Strict

MENDELEY = (
    "https://data.mendeley.com/public-files/datasets/4drtyfjtfy/files/"
    "a03e6097-f7fb-4e1a-9c6a-8923c6a0d3e0/file_downloaded"
)
CHECKSUMS = Path(__file__).with_name("mendeley.sha256")
MAX_DOWNLOAD = 50_000_000_000  # bytes


@dataclass(frozen=True)
class Found:
    """One file of a source: its bytes, or their sha256 if they need not be read, or the reason why there are none."""

    name: str
    label: str | None = None
    data: bytes = b""
    reason: images.Reason | None = None
    detail: str = ""
    ignored: bool = False
    sha256: str = ""
    path: str = ""  # where the bytes stand, and a stamp that changes with them: size and modification time
    stamp: str = ""


# From path and stamp to the sha256 of bytes that need not be read again; None where they must be.
Seen = Callable[[str, str], str | None]


class Synthetic(Strict):
    """Rendered skies: no network, no licence, and marked as synthetic wherever a result on them is shown."""

    kind: Literal["synthetic"]
    per_class: int = Field(ge=10, le=100_000)
    seed: int = Field(ge=0)

    @property
    def title(self) -> str:
        """What the ledger calls the source."""
        return SYNTHETIC

    def state(self, root: Path) -> str:
        """Equal as long as the same images would come again."""
        return f"{self.model_dump_json()} {sha256(Path(synthetic.__file__))}"

    def count(self, root: Path) -> int:
        """How many files `files` yields."""
        return self.per_class * len(synthetic.CLASSES)

    def files(self, root: Path, seen: Seen) -> Iterator[Found]:
        """Every image, in a fixed order; rendering is the cost, and what it gives is never known before."""
        for name, data in synthetic.images(self.per_class, self.seed):
            yield Found(name, name.split("/")[0], data)


NAMELESS = "no class folder (letters, digits, spaces, _, -; first a letter or digit; up to 63), no <class><number> name"
LINKED = "a link to a folder, and those are not entered: copy the folder, or name what it leads to as a source"


class Placed(Strict, ABC):
    """What all sources share that end up as a folder or an archive on this machine."""

    @abstractmethod
    def place(self, root: Path) -> Path:
        """The folder or archive, brought here first if need be."""

    def count(self, root: Path) -> int:
        """How many files `files` yields."""
        return len(names(self.place(root)))

    def files(self, root: Path, seen: Seen) -> Iterator[Found]:
        """Every file, ignored ones included; bytes are read one file at a time, and only of files not `seen`."""
        place = self.place(root)
        inside = names(place)
        kept = [name for name in inside if not layout.ignored(name)]
        yield from (Found(name, ignored=True) for name in inside if layout.ignored(name))
        texts = [name for name in kept if layout.called_text(name)]
        classes = layout.labels([name for name in kept if not layout.called_text(name)], packed=place.is_file())
        for name, label in classes.items():
            if label is None:
                linked = place.is_dir() and (place / name).is_dir()
                yield Found(name, reason="name not understood", detail=LINKED if linked else NAMELESS)
        classes |= layout.as_beside(texts, classes)
        yield from (Found(name, ignored=True) for name in texts if classes[name] is None)
        wanted = [name for name in kept if classes[name] is not None]
        if place.is_dir():
            yield from (read(place, name, classes[name], seen) for name in wanted)
        else:
            yield from unpack(place, wanted, classes, seen)


class Local(Placed):
    """A folder of class folders, a flat one whose file names begin with the class, or an archive of either."""

    kind: Literal["local"]
    path: str = Field(pattern=r"^[^\x00]+$")

    @property
    def title(self) -> str:
        """What the ledger calls the source: the folder's or archive's own name, no path of a machine."""
        return Path(self.path).name or "folder"

    def place(self, root: Path) -> Path:
        """The folder or archive; a relative path counts from the project's root.

        Raises:
            InputError: it is not there, or is neither a folder nor an archive.
        """
        try:
            place = (root / Path(self.path).expanduser()).resolve()
            there = place.exists()
        except (RuntimeError, OSError) as error:  # a home that nobody has, a folder that is closed to us
            raise InputError(f"source {self.path}: {error}") from None
        if not there:
            raise InputError(f"source {self.path}: no such folder or archive ({place})")
        if not place.is_dir() and not archives.is_archive(place):
            raise InputError(f"source {self.path}: neither a folder nor a .zip or .tar archive")
        return place

    def state(self, root: Path) -> str:
        """Names, sizes and modification times, as git looks at a work tree."""
        place = self.place(root)
        paths = [place] if place.is_file() else [place / name for name in sorted(_walk(place))]
        seen = [(str(path), *looked) for path in paths if (looked := _size_and_time(path))]
        return hashlib.sha256(json.dumps(seen).encode("utf-8", "surrogateescape")).hexdigest()

    def empty_folder(self, root: Path) -> str | None:
        """Name of a folder without any file, in which somebody meant to put a class."""
        place = self.place(root)
        folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        return next((path.name for path in folders if not layout.ignored(path.name) and not any(path.iterdir())), None)


class Url(Placed):
    """An archive on the web, with the sha256 that it must have."""

    kind: Literal["url"]
    url: str = Field(pattern=r"^https?://[^\s]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def title(self) -> str:
        """What the ledger calls the source: the file's name in the URL."""
        return Path(urlsplit(self.url).path).name or "download"

    def place(self, root: Path) -> Path:
        """The archive under .weathervane/downloads, fetched if it is not there yet."""
        target = root / project.DOWNLOADS / f"{self.sha256[:16]}-{self.title}"
        if not archives.is_archive(target):
            raise InputError(f"source {self.url}: the URL must end in the name of a .zip or .tar archive")
        return fetch(self.url, target, digest=self.sha256, limit=MAX_DOWNLOAD)

    def state(self, root: Path) -> str:
        """The content is fixed by its sha256."""
        return self.sha256


class Mendeley(Placed):
    """The Multi-class Weather Dataset (Ajayi 2018, DOI 10.17632/4drtyfjtfy.1), each file against its sha256."""

    kind: Literal["mendeley"]
    url: str = Field(default=MENDELEY, pattern=r"^https?://[^\s]+$")

    @property
    def title(self) -> str:
        """What the ledger calls the source."""
        return "mendeley"

    def place(self, root: Path) -> Path:
        """The publisher's zip under .weathervane/downloads, fetched if it is not there yet."""
        target = root / project.DOWNLOADS / "mendeley-dataset2.zip"
        fetch(self.url, target, digest=None, limit=MAX_DOWNLOAD)
        if not is_zipfile(target):
            target.unlink()
            raise InputError(
                f"source {self.url}: what came is no zip archive, and is removed: run it again, or fetch the dataset "
                "by hand and name its file as the source"
            )
        return target

    def state(self, root: Path) -> str:
        """The content is fixed by the published checksums."""
        return sha256(CHECKSUMS)

    def files(self, root: Path, seen: Seen) -> Iterator[Found]:
        """Every file; one whose bytes are not the published ones is refused."""
        lines = (line.split(maxsplit=1) for line in CHECKSUMS.read_text(encoding="utf-8").splitlines())
        published = {name: digest for digest, name in lines}
        for found in super().files(root, seen):
            digest = found.sha256 or hashlib.sha256(found.data).hexdigest()
            if found.ignored or found.reason or published.get(found.name) == digest:
                yield found
            else:
                detail = f"sha256 {digest}, published: {published.get(found.name, 'no such file')}"
                yield replace(found, reason="checksum mismatch", detail=detail)


Source = Annotated[Synthetic | Local | Url | Mendeley, Field(discriminator="kind")]


def named(text: str) -> Source:
    """The source that a person means by `--source TEXT`."""
    if text == "synthetic":
        return Synthetic(kind="synthetic", per_class=100, seed=0)
    if text == "mendeley":
        return Mendeley(kind="mendeley")
    return params.check(Local, {"kind": "local", "path": text}, "--source")


def names(place: Path) -> list[str]:
    """Everything in a folder or archive that is not a folder, relative to it."""
    return sorted(_walk(place)) if place.is_dir() else archives.members(place)


def _walk(folder: Path) -> Iterator[str]:
    """Relative names of everything that is not a folder; links to folders are named, never entered."""

    def refuse(error: OSError) -> None:
        left = isinstance(error, FileNotFoundError)  # since its parent was listed
        if not left and not layout.ignored(Path(error.filename).relative_to(folder).as_posix()):
            raise InputError(f"source {error.filename}: {error.strerror}: make the folder readable, or take it out")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        base = Path(parent)
        links = [name for name in folders if (base / name).is_symlink()]
        inside = "" if base == folder else f"{base.relative_to(folder).as_posix()}/"
        yield from (inside + name for name in (*files, *links))


def read(folder: Path, name: str, label: str | None, seen: Seen) -> Found:
    """One file of a folder: its bytes, or its sha256 if they were `seen`, or why there are none."""
    path = folder / name
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            return Found(name, label, reason="outside the source", detail=f"a link to {path.readlink()}")
        if not path.is_file():
            return Found(
                name, label, reason="unreadable file", detail="not a regular file" if path.exists() else "no such file"
            )
        found = Found(name, label, path=str(path), stamp=stamp(path))
        if digest := seen(found.path, found.stamp):
            return replace(found, sha256=digest)
        with open(path, "rb") as file:
            return replace(found, data=file.read(images.MAX_BYTES + 1))
    except (OSError, RuntimeError) as error:  # RuntimeError: how Python 3.11 and 3.12 tell a loop of links
        return Found(name, label, reason="unreadable file", detail=getattr(error, "strerror", None) or str(error))


def unpack(archive: Path, wanted: list[str], classes: dict[str, str | None], seen: Seen) -> Iterator[Found]:
    """These members of an archive in its order; of those that were `seen`, the sha256."""
    state, twice = stamp(archive), {name for name, count in Counter(wanted).items() if count > 1}
    known = {name: seen(f"{archive}/{name}", state) for name in wanted if name not in twice}
    unread = archives.read(archive, {name for name in wanted if not known.get(name)}, images.MAX_BYTES)
    for name in wanted:
        path = "" if name in twice else f"{archive}/{name}"
        if digest := known.get(name):
            yield Found(name, classes[name], sha256=digest, path=path, stamp=state)
        else:
            taken = next(unread, None)
            if taken is None:
                raise InputError(f"source {archive}: it was changed while it was read: run it again")
            yield Found(name, classes[name], taken[1], path=path, stamp=state)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """Bytes and modification time (ns); None of a file that has left the folder since it was listed."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def stamp(path: Path) -> str:
    """Another text whenever a file's bytes are others, as git judges it: by size and modification time."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"
