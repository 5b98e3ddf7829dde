"""Reading zip and tar archives that may mean harm: every member is checked before the first is read.

Nothing is ever extracted to a name that an archive chose; members are streamed as bytes.
"""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Self

from weathervane.errors import InputError

MAX_MEMBERS = 2_000_000
MAX_TOTAL = 200_000_000_000  # bytes, unpacked
MAX_RATIO = 100
SMALL = 10_000_000  # bytes, unpacked, below which no ratio is a bomb
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

EXTENDED = (  # tar headers with text after them, which tarfile reads whole: long names, attributes
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
MAX_HEADER = 65_536  # bytes of such text


def is_archive(path: Path) -> bool:
    """By the ending; the content is checked when it is opened."""
    return path.name.lower().endswith((".zip", *TAR_ENDINGS))


def members(path: Path, *, bounded: bool = True) -> list[str]:
    """Names of the regular files, in the archive's order; with `bounded`, of 2 million files and 200 GB at most.

    Raises:
        InputError: damaged or encrypted; a member that would leave the folder, is a link or a device, or (in a
            zip) is packed by another method than deflate; a bomb (more than 100 times its packed size); more than
            the bounds.
    """
    with _told(path):
        found = _Members(path, bounded)
        return _zip_members(found) if path.name.lower().endswith(".zip") else _tar_members(found)


def read(path: Path, wanted: set[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each wanted member; of one larger than `limit` only its first limit + 1 bytes."""
    with _told(path):
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if info.filename in wanted and not info.is_dir():
                        with archive.open(info) as member:
                            yield info.filename, member.read(min(limit, info.file_size) + 1)
        else:
            for tar, entry in _tar_entries(path):
                if entry.name in wanted and entry.isfile():
                    file = tar.extractfile(entry)
                    assert file is not None
                    yield entry.name, file.read(limit + 1)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns whatever the archive readers raise into one line that names the archive."""
    try:
        yield
    except (InputError, FileNotFoundError):
        raise
    except Exception as error:  # a reader of damaged bytes may raise anything at all
        why = " ".join(str(error).split())
        raise InputError(f"{path}: damaged or not an archive ({why}): fetch it again") from None


class _Members:
    """The names met so far; refuses the archive as soon as one of them, or all together, go too far."""

    def __init__(self, path: Path, bounded: bool) -> None:
        self.path, self.bounded = path, bounded
        self.names: list[str] = []
        self.total = 0
        self.most = max(SMALL, MAX_RATIO * path.stat().st_size)

    def add(self, name: str, size: int) -> None:
        place = PureWindowsPath(name)  # knows drives, and both kinds of slash
        if place.anchor or ".." in place.parts or not place.parts or "\0" in name:
            raise InputError(f"{self.path}: member {name!r} would leave the folder: the archive is refused whole")
        self.names.append(name)
        self.total += size
        if self.total > self.most:
            raise InputError(f"{self.path}: unpacks to over {MAX_RATIO} times its size: refused")
        if self.bounded and (len(self.names) > MAX_MEMBERS or self.total > MAX_TOTAL):
            raise InputError(
                f"{self.path}: over {MAX_MEMBERS:,} files or {MAX_TOTAL:,} bytes: more than is read from one archive"
            )


def _zip_members(members: _Members) -> list[str]:
    path = members.path
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename
            if info.flag_bits & 1:
                raise InputError(f"{path}: {name!r} is encrypted: unpack it yourself and give the folder")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{path}: {name!r} is a link or a device: only files are taken")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others whole
                raise InputError(f"{path}: {name!r} is packed by method {info.compress_type}: pack it with deflate")
            if info.is_dir():
                continue
            members.add(name, info.file_size)
            if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
                raise InputError(f"{path}: {name!r} unpacks to over {MAX_RATIO} times its size: refused")
    return members.names


def _tar_members(members: _Members) -> list[str]:
    path = members.path
    for _, entry in _tar_entries(path):
        if entry.isdir():
            continue
        if not entry.isfile():
            raise InputError(f"{path}: {entry.name!r} is a link or a device: only files are taken")
        members.add(entry.name, entry.size)
    return members.names


def _tar_entries(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    with tarfile.open(path, tarinfo=_Header) as archive:
        for entry in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every entry that it has read
            if entry.size < 0:
                raise tarfile.ReadError(f"{entry.name!r} has a negative size")
            yield archive, entry


class _Header(tarfile.TarInfo):
    """A header that is refused where `tarfile` loops, reads gigabytes, or takes damage for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None
        endless = header.type == tarfile.GNUTYPE_SPARSE or (header.type in EXTENDED and header.size > MAX_HEADER)
        if endless or header.size < 0:
            raise tarfile.ReadError(f"a header of type {header.type.decode('latin-1')} and {header.size:,} bytes")
        return header
