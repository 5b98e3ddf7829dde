"""Reading zip and tar archives that may mean harm: every member is checked before the first is read.

Nothing is ever extracted to a name that an archive chose; members are streamed as bytes.
"""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from weathervane.errors import InputError

MAX_MEMBERS = 2_000_000
MAX_TOTAL = 200_000_000_000  # bytes, unpacked
MAX_RATIO = 100
SMALL = 10_000_000  # bytes, unpacked, below which no ratio is a bomb
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive(path: Path) -> bool:
    """By the ending; the content is checked when it is opened."""
    return path.name.lower().endswith((".zip", *TAR_ENDINGS))


def members(path: Path) -> list[str]:
    """Names of the regular files, in the archive's order.

    Raises:
        InputError: damaged or encrypted; a member that would leave the folder, a link, a bomb (more than 100
            times its packed size, 2 million files or 200 GB).
    """
    with _told(path):
        return _zip_members(path) if path.name.lower().endswith(".zip") else _tar_members(path)


def read(path: Path, wanted: set[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each wanted member; of one larger than `limit` only its first limit + 1 bytes."""
    with _told(path):
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if info.filename in wanted and not info.is_dir():
                        with archive.open(info) as member:
                            yield info.filename, member.read(limit + 1)
        else:
            with tarfile.open(path) as archive:
                for entry in archive:
                    if entry.name in wanted and entry.isfile():
                        file = archive.extractfile(entry)
                        assert file is not None
                        yield entry.name, file.read(limit + 1)


class _told:
    """Turns what the archive readers raise into one line that names the archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import lzma
        import zlib

        damaged = (
            zipfile.BadZipFile,
            tarfile.TarError,
            EOFError,
            zlib.error,
            lzma.LZMAError,
            NotImplementedError,
        )
        if isinstance(error, damaged) or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError)):
            raise InputError(f"{self.path}: damaged or not an archive ({error}): fetch it again") from None


def _zip_members(path: Path) -> list[str]:
    names, total = [], 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise InputError(f"{path}: '{info.filename}' is encrypted: unpack it yourself and give the folder")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{path}: '{info.filename}' is a link: links are not followed")
            if info.is_dir():
                continue
            total += info.file_size
            names.append(info.filename)
            if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
                raise InputError(f"{path}: '{info.filename}' unpacks to over {MAX_RATIO} times its size: refused")
    _check(path, names, total)
    return names


def _tar_members(path: Path) -> list[str]:
    names, total, packed = [], 0, path.stat().st_size
    with tarfile.open(path) as archive:
        for entry in archive:
            if entry.isdir():
                continue
            if not entry.isfile():
                raise InputError(f"{path}: '{entry.name}' is a link or a device: only files are taken")
            total += entry.size
            names.append(entry.name)
            if total > max(SMALL, MAX_RATIO * packed):
                raise InputError(f"{path}: unpacks to over {MAX_RATIO} times its size: refused")
    _check(path, names, total)
    return names


def _check(path: Path, names: list[str], total: int) -> None:
    for name in names:
        pure = PurePosixPath(name.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0] or "\0" in name:
            raise InputError(f"{path}: member {name!r} would leave the folder: the archive is refused whole")
    if len(names) > MAX_MEMBERS or total > MAX_TOTAL:
        raise InputError(f"{path}: {len(names):,} files of {total:,} bytes: more than is read from one archive")
