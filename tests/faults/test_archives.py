"""Archives that mean harm, or are damaged: fault 51."""

import io
import random
import struct
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.noise import photograph, take_in
from tests.rows import often
from weathervane import archives
from weathervane.errors import InputError

PHOTOGRAPHS = {f"{('rain', 'shine')[n % 2]}/{n}.jpg": photograph(n) for n in range(10)}


def zipped(path: Path, *more: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of the ten photographs and further members."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (*PHOTOGRAPHS.items(), *more):
            archive.writestr(name, data)
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def tarred(path: Path, *more: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar, packed as its ending says, of the ten photographs and further members."""
    how = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, how, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, data in PHOTOGRAPHS.items():
            archive.addfile(entry(name, size=len(data)), io.BytesIO(data))
        for info, data in more:
            archive.addfile(info, io.BytesIO(data) if info.isfile() and data else None)
    return path


EVIL = [
    "../canary.jpg",
    "rain/../../canary.jpg",
    "rain/..",
    "..\\canary.jpg",
    "rain\\..\\..\\canary.jpg",
    "/canary.jpg",
    "//server/share/canary.jpg",
    "\\\\server\\share\\canary.jpg",
    "\\canary.jpg",
    "C:\\canary.jpg",
    "C:canary.jpg",
]


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def overlapping(path: Path) -> Path:
    """Many entries that share one packed member (D. Fifield, "A better zip bomb", WOOT 2019)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        chance = random.Random(0)
        archive.writestr("rain/1.jpg", chance.randbytes(100_000) + bytes(7_000_000))
        archive.filelist.extend(archive.filelist * 50)
    return path


def lying(path: Path, method: int) -> Path:
    """A member of 50 MB that is said to have 900 bytes, packed in a way that zipfile unpacks whole."""
    zipped(path, ("rain/bomb.jpg", bytes(50_000_000)), method=method)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 900)))
    return path


def endless_header(path: Path, size: int) -> Path:
    """An extended header that claims so many bytes of text."""
    path.write_bytes(entry("x", tarfile.XHDTYPE, size=size).tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    return path


def negative(path: Path) -> Path:
    """A photograph whose extended header corrects its size to less than nothing: `tarfile` walks backwards."""
    info = entry("rain/x.jpg", size=512)
    info.pax_headers = {"size": "-1536"}
    return tarred(path, (info, bytes(512)))


ZEROS = bytes(30_000_000)
MANY = [(f"rain/bomb{n}.jpg", bytes(9_000_000)) for n in range(5)]
HARMFUL: dict[str, tuple[str, Callable[[Path], Path], str]] = {
    **{f"zip {name!r}": ("a.zip", lambda p, n=name: zipped(p, (n, b"x")), "leave the folder") for name in EVIL},
    **{f"tar {name!r}": ("a.tar", lambda p, n=name: tarred(p, (entry(n), b"")), "leave the folder") for name in EVIL},
    "zip symlink": ("a.zip", lambda p: zipped(p, (special("rain/x.jpg", 0o120777), b"../../canary")), "link"),
    "zip device": ("a.zip", lambda p: zipped(p, (special("rain/x.jpg", 0o020666), b"")), "device"),
    "zip pipe": ("a.zip", lambda p: zipped(p, (special("rain/x.jpg", 0o010666), b"")), "device"),
    "tar symlink": ("a.tar", lambda p: tarred(p, (entry("rain/x.jpg", tarfile.SYMTYPE, "/etc/passwd"), b"")), "link"),
    "tar symlink, then a file through it": (
        "a.tar.gz",
        lambda p: tarred(p, (entry("rain/up", tarfile.SYMTYPE, "../.."), b""), (entry("rain/up/canary.jpg"), b"")),
        "link",
    ),
    "tar hardlink": ("a.tgz", lambda p: tarred(p, (entry("rain/x.jpg", tarfile.LNKTYPE, "../canary"), b"")), "link"),
    "tar character device": ("a.tar", lambda p: tarred(p, (entry("rain/x.jpg", tarfile.CHRTYPE), b"")), "device"),
    "tar block device": ("a.tar", lambda p: tarred(p, (entry("rain/x.jpg", tarfile.BLKTYPE), b"")), "device"),
    "tar pipe": ("a.tar", lambda p: tarred(p, (entry("rain/x.jpg", tarfile.FIFOTYPE), b"")), "device"),
    "zip bomb": ("a.zip", lambda p: zipped(p, ("rain/bomb.jpg", ZEROS)), "100 times"),
    "zip bomb in many members": ("a.zip", lambda p: zipped(p, *MANY), "100 times"),
    "zip bomb of overlapping members": ("a.zip", overlapping, "100 times"),
    "zip member of false size, bzip2": ("a.zip", lambda p: lying(p, zipfile.ZIP_BZIP2), "method 12"),
    "zip member of false size, lzma": ("a.zip", lambda p: lying(p, zipfile.ZIP_LZMA), "method 14"),
    "tar.gz bomb": ("a.tar.gz", lambda p: tarred(p, (entry("rain/b.jpg", size=len(ZEROS)), ZEROS)), "100 times"),
    "tar.bz2 bomb": ("a.tar.bz2", lambda p: tarred(p, (entry("rain/b.jpg", size=len(ZEROS)), ZEROS)), "100 times"),
    "tar.xz bomb": ("a.tar.xz", lambda p: tarred(p, (entry("rain/b.jpg", size=len(ZEROS)), ZEROS)), "100 times"),
    "tar header of 8 GB": ("a.tar", lambda p: endless_header(p, 8_000_000_000), "header of type x"),
    "tar header of less than nothing": ("a.tar", lambda p: endless_header(p, -512), "header of type x and -512"),
    "tar member of less than nothing": ("a.tar", negative, "negative size"),
}


def test_there_are_enough_of_them() -> None:
    """Row 51 asks for 30."""
    assert len(HARMFUL) >= 30


@pytest.mark.fault(51)
@pytest.mark.parametrize("kind", list(HARMFUL))
def test_harmful_archives(kind: str, tmp_path: Path) -> None:
    """Refused whole, by name, before anything is written: no file under the project, the canary outside untouched."""
    ending, make, told = HARMFUL[kind]
    (tmp_path / "canary.jpg").write_bytes(b"alive")
    archive = make(tmp_path / ending)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    root = tmp_path / "root"
    start = time.monotonic()
    with pytest.raises(InputError, match=told) as caught:
        take_in(archive, root)
    assert time.monotonic() - start < 5
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".ZIP", ".Tar.Gz"])
def test_ordinary_archives(ending: str, tmp_path: Path) -> None:
    """What is not harmful is read: folders, a dot in front, colons, spaces and `..` inside of names are no crime."""
    path = tmp_path / f"a{ending}"
    extra = {"./rain/x..y.jpg": photograph(20), "rain/at 10:30.jpg": photograph(21), "rain/눈 ☔.jpg": photograph(22)}
    if ending.lower() == ".zip":
        zipped(path, ("rain/deeper/", b""), *extra.items())
    else:
        members = [(entry(name, size=len(data)), data) for name, data in extra.items()]
        tarred(path, (entry("rain/deeper", tarfile.DIRTYPE), b""), *members)
    report = take_in(path, tmp_path / "root")
    assert report.files == 13
    assert len(report.accepted) == 13
    assert take_in(path, tmp_path / "root").known == 13


def test_a_ratio_of_less_than_100_is_no_bomb(tmp_path: Path) -> None:
    """A member that unpacks to 60 times its size is read; small members may shrink as much as they like."""
    data = random.Random(0).randbytes(250_000) + bytes(14_750_000)
    path = zipped(tmp_path / "a.zip", ("rain/large.jpg", data), ("rain/small.jpg", bytes(90_000)))
    assert len(archives.members(path)) == 12
    sizes = {name: len(read) for name, read in archives.read(path, {"rain/large.jpg", "rain/small.jpg"}, 200_000_000)}
    assert sizes == {"rain/large.jpg": 15_000_000, "rain/small.jpg": 90_000}


@pytest.mark.parametrize("ending", ["a.zip", "a.tar.gz"])
def test_large_members_are_not_read_whole(ending: str, tmp_path: Path) -> None:
    """Of a member above the limit, one byte more than the limit is read: enough to know that it is too large."""
    data = random.Random(0).randbytes(300_000)
    path = tmp_path / ending
    if ending == "a.zip":
        zipped(path, ("rain/large.jpg", data))
    else:
        tarred(path, (entry("rain/large.jpg", size=len(data)), data))
    assert [(n, len(d)) for n, d in archives.read(path, {"rain/large.jpg"}, 1000)] == [("rain/large.jpg", 1001)]


def test_an_encrypted_zip(tmp_path: Path) -> None:
    """Told as such, with the way out, and nothing is asked at the terminal."""
    path = zipped(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[data.index(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"'rain/0.jpg' is encrypted: unpack it yourself"):
        take_in(path, tmp_path / "root")


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.6, 0.9])
def test_truncated_archives(ending: str, share: float, tmp_path: Path) -> None:
    """A download that broke off is refused by name; nothing is taken in."""
    path = tmp_path / f"a{ending}"
    zipped(path) if ending == ".zip" else tarred(path)
    data = path.read_bytes()
    used = len(data) if ending != ".tar" else len(data.rstrip(b"\0"))  # a tar ends in up to 10 KB of padding
    path.write_bytes(data[: int(share * used)])
    with pytest.raises(InputError, match="damaged or not an archive") as caught:
        take_in(path, tmp_path / "root")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]


def test_something_else_under_the_name_of_an_archive(tmp_path: Path) -> None:
    """A web page saved as .zip, a zip named .tar, and an ending that is none: each is told."""
    path = tmp_path / "a.zip"
    path.write_bytes(b"<!DOCTYPE html><html>please log in</html>")
    with pytest.raises(InputError, match="damaged or not an archive"):
        take_in(path, tmp_path / "root")
    with pytest.raises(InputError, match="damaged or not an archive"):
        take_in(zipped(tmp_path / "b.tar"), tmp_path / "root")
    (tmp_path / "c.rar").write_bytes(b"Rar!")
    with pytest.raises(InputError, match=r"neither a folder nor a \.zip or \.tar archive"):
        take_in(tmp_path / "c.rar", tmp_path / "root")


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    """A tar whose fifth header is damaged does not pass for a shorter tar."""
    path = tarred(tmp_path / "a.tar")
    data = bytearray(path.read_bytes())
    data[data.index(b"rain/4.jpg") + 120] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        take_in(path, tmp_path / "root")


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    """Empty archives, and archives of folders only, have no image at all."""
    for path in (tmp_path / "a.zip", tmp_path / "b.tar"):
        if path.suffix == ".zip":
            zipfile.ZipFile(path, "w").close()
        else:
            tarfile.open(path, "w").close()
        with pytest.raises(InputError, match="no image at all"):
            take_in(path, tmp_path / "root")


def test_an_empty_member_name(tmp_path: Path) -> None:
    """A member without a name, or called `.`, is refused, not stumbled over."""
    for name in (".", "./"):
        path = tarred(tmp_path / "a.tar", (entry(name, size=1), b"x"))
        with pytest.raises(InputError, match="leave the folder"):
            archives.members(path)


def test_folders_packed_on_windows(tmp_path: Path) -> None:
    """Backslashes that stay inside make no folders here: the names are told as not understood."""
    path = zipped(tmp_path / "a.zip", ("rain\\20.jpg", photograph(20)))
    report = take_in(path, tmp_path / "root")
    assert [(bad.name, bad.reason) for bad in report.quarantined] == [("rain\\20.jpg", "name not understood")]


MUTANTS = often(100, 2500)


@pytest.mark.fault(58, trials=MUTANTS)
@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_mutants(ending: str, tmp_path: Path) -> None:
    """Damaged archives are read or refused in one line, in under 5 s: no traceback, no crash."""
    path = tmp_path / f"a{ending}"
    whole = (zipped(path, ("rain/눈.jpg", b"x")) if ending == ".zip" else tarred(path)).read_bytes()
    ends: Counter[str] = Counter()
    for seed in range(MUTANTS):
        chance, data = random.Random(f"{ending} {seed}"), bytearray(whole)
        match chance.randrange(4):
            case 0:
                for _ in range(chance.randint(1, 8)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                place = chance.randrange(len(data))
                del data[place : place + chance.randint(1, 40)]
            case 2:
                place = chance.randrange(len(data))
                data[place:place] = chance.randbytes(chance.randint(1, 40))
            case 3:  # the directory of a zip, the padding of a tar
                for _ in range(chance.randint(1, 4)):
                    data[-chance.randint(1, 700)] = chance.randrange(256)
        path.write_bytes(data)
        start = time.monotonic()
        try:
            names = archives.members(path)
            for name, read in archives.read(path, set(names), 10_000):
                assert name in names
                assert len(read) <= 10_001
            ends["read"] += 1
        except InputError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)
            ends["refused"] += 1
        assert time.monotonic() - start < 5
    assert ends["refused"] > 20


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Reading an archive keeps neither what was read nor an object for each member."""
    import tracemalloc

    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for n in range(1000):
            archive.addfile(entry(f"rain/{n}.jpg", size=512), io.BytesIO(bytes(512)))
    names = set(archives.members(path))
    tracemalloc.start()
    try:
        assert sum(1 for _ in archives.read(path, names, 1000)) == 1000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1000 * sys.getsizeof(tarfile.TarInfo())
