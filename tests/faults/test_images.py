"""Files that are no photographs, or hardly: rows 1-11, 13 and 46 of rows.yaml."""

import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from tests import noise
from tests.noise import encoded, photograph, soft
from tests.rows import often
from weathervane.errors import InputError
from weathervane.examine import Picture, look
from weathervane.images import BadImage, Reason, decode, notes, open_image, upright_rgb
from weathervane.layout import shown
from weathervane.ledger import Ledger
from weathervane.sorting import Report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of two classes with 5 good photographs each."""
    folder = tmp_path / "source"
    for n in range(10):
        path = folder / ("rain", "shine")[n % 2] / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(n))
    return folder


def take_in(source: Path, root: Path, **changes: Any) -> Report:
    """Ingest the folder; every file of it stands in exactly one list of the report."""
    report = noise.take_in(source, root, **changes)
    lists = (report.accepted, report.duplicates, report.quarantined, report.ignored)
    assert report.files == report.known + sum(map(len, lists))
    return report


def left(root: Path) -> set[str]:
    """Every file under the project's root."""
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def reasons(report: Report) -> Counter[str]:
    return Counter(bad.reason for bad in report.quarantined)


def child(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A fresh Python, because audit hooks stay for good and a peak of memory never goes down."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width: int, height: int) -> bytes:
    """A valid RGB PNG of any size: one deflated row, repeated, without ever holding the pixels."""
    row = bytes(1 + 3 * width)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(row) + deflate.flush(zlib.Z_FULL_FLUSH)
    adler = (len(row) * height % 65521 << 16) | 1
    stream = b"\x78\x9c" + packed * height + b"\x03\x00" + struct.pack(">I", adler)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


# Row 1


@pytest.mark.fault(1, trials=100)
def test_what_is_no_image(source: Path, tmp_path: Path) -> None:
    """100 of 100 files that only call themselves .jpg are quarantined by name, sha256 and reason; the rest goes on."""
    contents = [
        lambda n: b"",
        lambda n: f"<!DOCTYPE html><html><body>404 {n}</body></html>".encode(),
        lambda n: f'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="{n}"/>'.encode(),
        lambda n: f"rain rain rain {n}".encode(),
    ]
    for n in range(100):
        (source / "rain" / f"bad {n}.jpg").write_bytes(contents[n % 4](n))
    report = take_in(source, tmp_path / "root")
    assert len(report.accepted) == 10
    assert reasons(report) == {"empty": 25, "not an image": 75}
    assert {bad.name for bad in report.quarantined} == {f"rain/bad {n}.jpg" for n in range(100)}
    kept = tmp_path / "root/.weathervane/quarantine"
    assert all((kept / bad.sha256).is_file() for bad in report.quarantined)
    assert Ledger.read(tmp_path / "root/data/raw").quarantined == report.quarantined


# Row 2


@pytest.mark.fault(2, trials=50)
@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "WEBP"])
def test_truncated_files(kind: str, source: Path, tmp_path: Path) -> None:
    """Cut at 50 offsets from the first byte to the last percent: all 50 are quarantined."""
    image = soft(99, 320, 240)
    whole = encoded(image, "JPEG", progressive=True) if kind == "progressive" else encoded(image, kind)
    assert decode(whole, 32).shape == (32, 32, 3)
    for n, offset in enumerate(np.linspace(1, 0.99 * len(whole), 50).astype(int)):
        (source / "rain" / f"cut {n}.jpg").write_bytes(whole[:offset])
    report = take_in(source, tmp_path / "root")
    assert len(report.quarantined) == 50
    assert reasons(report).keys() <= {"truncated", "not an image"}
    assert reasons(report)["truncated"] > 30


# Row 3


@cache
def seeds() -> dict[str, bytes]:
    """One small photograph in each of the seven formats, with EXIF and further frames where there can be any."""
    image, other = soft(7), soft(8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    more = {"save_all": True, "append_images": [other]}
    return {
        "JPEG": encoded(image, exif=exif, progressive=True),
        "PNG": encoded(image, "PNG", exif=exif),
        "GIF": encoded(image.quantize(64), "GIF", save_all=True, append_images=[other.quantize(64)]),
        "WEBP": encoded(image, "WEBP", exif=exif, **more),
        "BMP": encoded(image, "BMP"),
        "TIFF": encoded(image, "TIFF", compression="tiff_lzw", exif=exif, **more),
        "MPO": encoded(image, "MPO", exif=exif, **more),
    }


def mutant(kind: str, seed: int) -> bytes:
    """The seed photograph with bytes changed, cut out, put in, moved, or cut off; a PNG's checksums made good."""
    chance = random.Random(f"{kind} {seed}")
    data = bytearray(seeds()[kind])
    place = chance.randrange(len(data))
    match chance.randrange(6):
        case 0:
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        case 1:  # headers are worth more than pixels
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(min(len(data), 200))] = chance.choice([0, 1, 127, 128, 255])
        case 2:
            del data[place : place + chance.randint(1, 40)]
        case 3:
            data[place:place] = chance.randbytes(chance.randint(1, 40))
        case 4:
            other = chance.randrange(len(data))
            data[place : place + 20] = data[other : other + 20]
        case 5:
            del data[place:]
    return repaired(bytes(data)) if kind == "PNG" else bytes(data)


def repaired(png: bytes) -> bytes:
    """The same chunks with right checksums: without them no damage would get past the first check."""
    out, at = png[:8], 8
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4])
        out += chunk(png[at + 4 : at + 8], png[at + 8 : at + 8 + size])
        at += 12 + size
    return out


MUTANTS = often(300, 1429)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # pytest puts aside the filter that is set in images.py
@pytest.mark.fault(3, trials=MUTANTS)
@pytest.mark.parametrize("kind", list(seeds()))
def test_mutants(kind: str) -> None:
    """A damaged file decodes or is refused with a reason of the list, in under 5 s and 1 GiB: no crash, in any of 7
    formats."""
    ends: Counter[str] = Counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(MUTANTS):
        data, start = mutant(kind, seed), time.monotonic()
        try:
            image = open_image(data)
            notes(image)
            image.draft(None, (32, 32))
            assert upright_rgb(image).mode == "RGB"
            assert decode(data, 16).shape == (16, 16, 3)
            ends["decoded"] += 1
        except BadImage as bad:
            assert bad.reason in get_args(Reason)
            ends[bad.reason] += 1
        assert time.monotonic() - start < 5, f"mutant {seed}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1 << 20  # KiB
    assert ends["decoded"] > 0
    assert len(ends) > 1


def test_damage_beside_the_picture(source: Path, tmp_path: Path) -> None:
    """A broken EXIF block costs no photograph; a broken later frame is a reason, not a traceback."""
    broken = b"Exif\0\0no TIFF header at all"
    for n, kind in enumerate(("JPEG", "PNG", "WEBP")):
        (source / "rain" / f"exif {n}.jpg").write_bytes(encoded(soft(20 + n), kind, exif=broken))
    pages = encoded(soft(30), "TIFF", save_all=True, append_images=[soft(31)])
    second = int.from_bytes(pages[4:8], "little")
    second = struct.unpack_from("<I", pages, second + 2 + 12 * int.from_bytes(pages[second : second + 2], "little"))[0]
    (source / "rain/pages.tif").write_bytes(pages[:second] + bytes(200))
    report = take_in(source, tmp_path / "root")
    assert len(report.accepted) == 13
    assert reasons(report) == {"truncated": 1}


# Row 4

MEMORY = """
import sys
from pathlib import Path
from weathervane import images

def peak():  # of this process alone, in MB; getrusage would begin with the parent's
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

images.decode(Path(sys.argv[1]).read_bytes(), 64)  # the readers are loaded
for path in sys.argv[2:]:
    data, before = Path(path).read_bytes(), peak()
    try:
        image = images.open_image(data)
        noted = images.notes(image)
        images.upright_rgb(image)
        images.decode(data, 64)
        said = "; ".join(noted)
    except images.BadImage as bad:
        said = bad.reason
    print(f"{peak() - before:.0f} {said}")
"""


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that unpack to very many pixels, and what is to be said of each."""
    first, second = encoded(soft(1), "MPO", save_all=True, append_images=[soft(2)]), b"\xff\xd8\xff"
    at = first.index(b"\xff\xc0", first.index(second, 4)) + 5
    canvas = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + 2 * (16_000).to_bytes(3, "little")
    return {
        "100 megapixels": (black_png(10_000, 10_000), "too many pixels"),
        "250 megapixels": (black_png(10_000, 25_000), "too many pixels"),
        "a bomb behind a photograph": (first[:at] + b"\xff\xdc\xff\xdc" + first[at + 4 :], "first of 2 frames"),
        "a canvas": (b"RIFF" + struct.pack("<I", len(canvas)) + canvas, "too many pixels"),
        "a tile": (tile(30_000), "too many pixels"),
    }


def tile(side: int) -> bytes:
    """A 64x64 TIFF that stores its picture in one deflated tile of `side` x `side`."""
    entries = [
        (256, 64),
        (257, 64),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, side),
        (323, side),
        (324, 0),
        (325, 0),
    ]
    deflate = zlib.compressobj(9)
    packed = deflate.compress(bytes(1 << 20)) + deflate.flush()
    start = 8 + 2 + 12 * len(entries) + 4
    values = dict(entries) | {324: start, 325: len(packed)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + packed


@pytest.mark.fault(4)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from Linux's /proc")
def test_bombs(tmp_path: Path) -> None:
    """100 and 250 megapixels, a frame of 3 gigapixels behind a photograph: under 100 MB of memory each."""
    small = black_png(100, 100)
    assert not upright_rgb(open_image(small)).getbbox()  # valid: size alone is why the large ones are refused
    (tmp_path / "small").write_bytes(small)
    paths = {}
    for name, (data, _) in bombs().items():
        assert len(data) < 3_000_000
        paths[name] = tmp_path / name
        paths[name].write_bytes(data)
    done = child(MEMORY, tmp_path / "small", *paths.values())
    assert not done.stderr  # no remarks of Pillow's on the terminal
    lines = done.stdout.splitlines()
    for (name, (_, expected)), line in zip(bombs().items(), lines, strict=True):
        grown, said = line.split(" ", 1)
        assert (name, said) == (name, expected)
        assert int(grown) < 100, name


# Row 5

AUDIT = """
import sys
started = []
watched = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn")
sys.addaudithook(lambda event, args: started.append(event) if event in watched else None)
import io
from pathlib import Path
from PIL import Image
from weathervane.ingest import Ingest, ingest
params = {"dataset": "t", "sources": [{"kind": "local", "path": sys.argv[1]}], "test_fraction": 0.2, "folds": 2}
report = ingest(Ingest.model_validate(params | {"seed": 0, "max_bad": 1.0, "min_per_class": 3}), Path(sys.argv[2]))
print(len(started), *sorted(f"{bad.name}={bad.reason}" for bad in report.quarantined))
try:
    Image.open(io.BytesIO((Path(sys.argv[1]) / "rain/bad.jpg").read_bytes())).load()
except Exception:
    pass
print(len(started))
"""


@pytest.mark.fault(5, trials=2)
def test_postscript_starts_no_program(source: Path, tmp_path: Path) -> None:
    """An EPS named .jpg is quarantined and nothing is executed; a plain Image.open would ask for Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(%pipe%touch /tmp/x) (w) file\n%%EOF\n"
    (source / "rain/bad.jpg").write_bytes(eps)
    (source / "rain/worse.jpg").write_bytes(b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(eps)) + bytes(18) + eps)
    ours, pillows = child(AUDIT, source, tmp_path / "root").stdout.splitlines()
    assert ours == "0 rain/bad.jpg=not an image rain/worse.jpg=not an image"
    assert int(pillows) > 0  # the hook sees it


# Row 6

RAMP = np.linspace(0, 255, 64 * 64).reshape(64, 64)
COLOUR = np.dstack([RAMP, RAMP.T, 255 - RAMP]).round().astype(np.uint8)
GREY = np.dstack([RAMP] * 3)
PICTURE = Image.fromarray(COLOUR)


def palette() -> tuple[Image.Image, np.ndarray]:
    """A palette image and its colours, looked up by hand."""
    image = PICTURE.quantize(256)
    colours = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return image, colours[np.asarray(image)]


def over_white(alpha: np.ndarray) -> np.ndarray:
    return COLOUR * (alpha[..., None] / 255) + 255 - alpha[..., None]


def white_is_zero(image: Image.Image) -> bytes:
    """A TIFF whose tag says so; Pillow writes none."""
    photometric = struct.pack("<HHI", 262, 3, 1)
    written = encoded(image, "TIFF")
    assert written.count(photometric + b"\1") == 1
    return written.replace(photometric + b"\1", photometric + b"\0")


def conversions() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files of every mode that Pillow writes, and the RGB pixels that their numbers mean."""
    deep, unit = (257 * RAMP).round(), (RAMP / 255).astype(np.float32)
    indexed, looked_up = palette()
    alpha = RAMP.T.round().astype(np.uint8)
    faded = Image.fromarray(np.dstack([COLOUR, alpha]))
    white = np.full_like(alpha, 255)
    corner = COLOUR[0, 0]
    keyed = np.where((corner == COLOUR).all(axis=2)[..., None], 255, COLOUR)
    black = encoded(Image.new("P", (64, 64)), "GIF", save_all=True, append_images=[indexed])
    return {
        "CMYK JPEG": (encoded(PICTURE.convert("CMYK"), quality=95), COLOUR),
        "CMYK TIFF": (encoded(PICTURE.convert("CMYK"), "TIFF"), COLOUR),
        "YCbCr TIFF": (encoded(PICTURE.convert("YCbCr"), "TIFF"), COLOUR),
        "RGBA PNG": (encoded(faded, "PNG"), over_white(alpha)),
        "RGBA WebP": (encoded(faded, "WEBP", lossless=True, exact=True), over_white(alpha)),
        "RGBA TIFF": (encoded(faded, "TIFF"), over_white(alpha)),
        "opaque RGBA": (encoded(Image.fromarray(np.dstack([COLOUR, white])), "PNG"), COLOUR),
        "LA PNG": (encoded(Image.merge("LA", (Image.fromarray(alpha), Image.fromarray(alpha))), "PNG"), _la(alpha)),
        "RGB PNG with a transparent colour": (encoded(PICTURE, "PNG", transparency=tuple(corner.tolist())), keyed),
        "palette PNG": (encoded(indexed, "PNG"), looked_up),
        "palette PNG with a transparent entry": (
            encoded(indexed, "PNG", transparency=3),
            np.where((np.asarray(indexed) == 3)[..., None], 255, looked_up),
        ),
        "GIF": (encoded(indexed, "GIF"), looked_up),
        "animated GIF, first frame black": (black, np.zeros((64, 64, 3))),
        "animated WebP": (encoded(PICTURE, "WEBP", lossless=True, save_all=True, append_images=[indexed]), COLOUR),
        "several TIFF pages": (encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(90)]), COLOUR),
        "MPO": (encoded(PICTURE, "MPO", quality=95, save_all=True, append_images=[PICTURE.rotate(90)]), COLOUR),
        "1 bit PNG": (encoded(Image.fromarray(RAMP > 127), "PNG"), 255 * (GREY > 127)),
        "1 bit TIFF": (encoded(Image.fromarray(RAMP > 127), "TIFF", compression="group4"), 255 * (GREY > 127)),
        "grey JPEG": (encoded(Image.fromarray(RAMP.round().astype(np.uint8)), quality=95), GREY),
        "16-bit grey PNG": (encoded(Image.fromarray(deep.astype(np.uint16)), "PNG"), GREY),
        "16-bit grey PNG with a transparent grey": (
            encoded(Image.fromarray(np.where(RAMP > 127, 30_000, deep).astype(np.uint16)), "PNG", transparency=30_000),
            np.where(GREY > 127, 255, GREY),
        ),
        "16-bit grey TIFF whose white is 0": (white_is_zero(Image.fromarray((65535 - deep).astype(np.uint16))), GREY),
        "16-bit grey TIFF": (encoded(Image.fromarray(deep.astype(np.uint16)), "TIFF"), GREY),
        "16-bit grey TIFF of the other byte order": (encoded(Image.fromarray(deep.astype(">u2")), "TIFF"), GREY),
        "32-bit TIFF with 16-bit grey": (encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"), GREY),
        "32-bit TIFF with 8-bit grey": (encoded(Image.fromarray(RAMP.round().astype(np.int32)), "TIFF"), GREY),
        "float TIFF 0-1": (encoded(Image.fromarray(unit), "TIFF"), GREY),
        "float TIFF 0-255": (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), GREY),
        "float TIFF 0-65535": (encoded(Image.fromarray(deep.astype(np.float32)), "TIFF"), GREY),
        "BMP": (encoded(PICTURE, "BMP"), COLOUR),
        "progressive JPEG": (encoded(PICTURE, progressive=True, quality=95), COLOUR),
    }


def _la(grey: np.ndarray) -> np.ndarray:
    value = grey.astype(float)
    return np.dstack([value * value / 255 + 255 - value] * 3)


@pytest.mark.fault(6)
@pytest.mark.parametrize("name", list(conversions()))
def test_conversions(name: str) -> None:
    """Every mode becomes the RGB that its numbers mean, over white, to a mean error of 2 grey levels at most."""
    data, expected = conversions()[name]
    pixels = np.asarray(upright_rgb(open_image(data)))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - expected.astype(float)).mean() <= 2
    assert (decode(data, 64) == pixels).all()


@pytest.mark.fault(6)
@pytest.mark.parametrize("worst", [np.nan, np.inf, -1, 70_000])
def test_numbers_that_are_no_grey(worst: float) -> None:
    """Measurements (elevation, temperature) stored as a TIFF are refused, not shown as something they are not."""
    values = RAMP.astype(np.float32)
    values[3, 3] = worst
    with pytest.raises(BadImage, match="unreadable mode"):
        decode(encoded(Image.fromarray(values), "TIFF"), 32)


# Row 7


@pytest.mark.fault(7)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_orientation(kind: str) -> None:
    """All eight EXIF orientations come out upright; a ninth, or none, is taken as upright already."""
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32] = 255, 0, 0  # red, top left
    upright[:24, 32:] = 0, 255, 0
    upright[24:, :32] = 0, 0, 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
        0: upright,
        9: upright,
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(Image.fromarray(np.ascontiguousarray(pixels)), kind, exif=exif)
        image, found = open_image(data), look(data)
        assert isinstance(found, Picture) and found.size == (64, 48), "the ledger's width and height are a person's"
        assert ("turned upright" in notes(image)) is (2 <= orientation <= 8)
        seen = np.asarray(upright_rgb(image)).astype(int)
        assert seen.shape == upright.shape, orientation
        assert np.abs(seen - upright).mean() < 8, orientation


# Rows 8 and 9


@pytest.mark.fault(8)
def test_sizes(source: Path, tmp_path: Path) -> None:
    """1x1, 20000x1 and 1x20000 are quarantined as too small; 16x16 and 20000x16 are photographs."""
    for n, (width, height) in enumerate([(1, 1), (20_000, 1), (1, 20_000), (15, 15), (16, 16), (20_000, 16)]):
        (source / "rain" / f"size {n}.png").write_bytes(encoded(soft(50 + n, width, height), "PNG"))
    report = take_in(source, tmp_path / "root")
    assert reasons(report) == {"too small": 4}
    assert {(row.width, row.height) for row in report.accepted} == {(64, 48), (16, 16), (20_000, 16)}


@pytest.mark.fault(9, trials=6)
def test_what_systems_leave_behind(source: Path, tmp_path: Path) -> None:
    """.DS_Store, Thumbs.db, __MACOSX and dot folders are ignored and counted; they make no class."""
    left = [
        ".DS_Store",
        "rain/.DS_Store",
        "shine/Thumbs.db",
        "__MACOSX/rain/._1.jpg",
        ".git/x.jpg",
        "rain/@eaDir/1.jpg",
    ]
    for name in left:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(photograph(60))
    report = take_in(source, tmp_path / "root")
    assert sorted(report.ignored) == sorted(left)
    assert {row.label for row in report.accepted} == {"rain", "shine"}
    assert not report.quarantined


# Row 10

OPENED = """
import sys
from pathlib import Path
opened = []
watched = ("open", "os.listdir", "os.scandir")
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in watched else None)
from weathervane.ingest import Ingest, ingest
params = {"dataset": "t", "sources": [{"kind": "local", "path": sys.argv[1]}], "test_fraction": 0.2, "folds": 2}
report = ingest(Ingest.model_validate(params | {"seed": 0, "max_bad": 1.0, "min_per_class": 3}), Path(sys.argv[2]))
reached = {str(Path(path).resolve()) for path in opened if "rain" in path or "shine" in path or "secret" in path}
print(len(reached), sum(path.startswith(sys.argv[3]) for path in reached))
for bad in report.quarantined:
    print(bad.name, bad.reason, sep="=")
print(len(report.accepted))
"""


@pytest.mark.fault(10, trials=10)
def test_links(source: Path, tmp_path: Path) -> None:
    """Links out of the folder and loops are refused, none is followed: nothing outside is opened or listed."""
    outside = tmp_path / "secret"
    (outside / "rain").mkdir(parents=True)
    (outside / "rain/1.jpg").write_bytes(photograph(70))
    (source / "rain/file.jpg").symlink_to(outside / "rain/1.jpg")
    (source / "rain/relative.jpg").symlink_to("../../secret/rain/1.jpg")
    (source / "rain/folder").symlink_to(outside)
    (source / "snow").symlink_to(outside / "rain")
    (source / "rain/self.jpg").symlink_to("self.jpg")
    (source / "rain/latin.jpg").symlink_to(b"/elsewhere/caf\xe9.jpg".decode("utf-8", "surrogateescape"))
    (source / "rain/a.jpg").symlink_to("b.jpg")
    (source / "rain/b.jpg").symlink_to("a.jpg")
    (source / "rain/up").symlink_to("..")
    (source / "rain/dangling.jpg").symlink_to("gone.jpg")
    counts, *refused, accepted = child(OPENED, source, tmp_path / "root", outside).stdout.splitlines()
    reached, beyond = map(int, counts.split())
    assert reached > 10  # the hook sees what is opened
    assert beyond == 0
    assert accepted == "10"
    told = dict(line.rsplit("=", 1) for line in refused)
    assert len(told) == 10
    for name in ("rain/file.jpg", "rain/relative.jpg", "rain/folder", "rain/latin.jpg"):
        assert told[name] == "outside the source"
    for name in ("rain/self.jpg", "rain/a.jpg", "rain/b.jpg", "rain/up", "rain/dangling.jpg"):
        assert told[name] == "unreadable file"


@pytest.mark.fault(10)
def test_pipes_do_not_block(source: Path, tmp_path: Path) -> None:
    """A named pipe or a socket among the photographs is quarantined; nobody waits for it."""
    os.mkfifo(source / "rain/pipe.jpg")
    report = take_in(source, tmp_path / "root")
    assert reasons(report) == {"unreadable file": 1}


# Row 11

NAMES = [
    b"with spaces .jpg",
    "눈 오는 날.jpg".encode(),
    "☔🌈.jpg".encode(),
    b"new\nline.jpg",
    b"carriage\rreturn.jpg",
    b'comma, "quote".jpg',
    b"not utf-8 \xff\xfe.jpg",
    b"x" * 251 + b".jpg",
    b"-rf.jpg",
    b"[bold]{0}%s.jpg",
    b"no ending",
    b"wrong.txt",
]


@pytest.mark.fault(11, trials=12)
def test_names(source: Path, tmp_path: Path) -> None:
    """12 of 12 strange file names are accepted, can be read in the ledger, and are known the next time."""
    for n, name in enumerate(NAMES):
        Path(os.fsdecode(os.fsencode(source / "rain") + b"/" + name)).write_bytes(photograph(80 + n))
    report = take_in(source, tmp_path / "root")
    assert len(report.accepted) == 22
    assert not report.quarantined
    rows = Ledger.read(tmp_path / "root/data/raw").rows
    assert rows == sorted(report.accepted, key=lambda row: (row.label, row.sha256))
    assert all((tmp_path / "root/data/raw" / row.path).is_file() for row in rows)
    assert {shown(os.fsdecode(b"rain/" + name)) for name in NAMES} <= {row.name for row in rows}
    assert take_in(source, tmp_path / "root").known == 22


def test_what_telephones_save_is_told_by_its_name(source: Path, tmp_path: Path) -> None:
    """HEIC is not read, and the quarantine says what to do; now and the next time, when its bytes are known."""
    (source / "rain" / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    for _ in range(2):
        (bad,) = take_in(source, tmp_path / "root").quarantined
        assert (bad.reason, bad.detail) == ("not an image", "HEIC and AVIF are not read: convert it to JPEG")


@pytest.mark.fault(11, trials=12)
def test_names_of_bad_files(source: Path, tmp_path: Path) -> None:
    """A bad file with a strange name is told like any other, now and the next time; one that calls itself a text is
    passed over, now and then."""
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(source / "rain") + b"/" + name)).write_bytes(b"bad " + name)
    report = take_in(source, tmp_path / "root")
    assert reasons(report) == {"not an image": 11} and report.ignored == ["rain/wrong.txt"]
    assert len(Ledger.read(tmp_path / "root/data/raw").quarantined) == 11
    assert reasons(take_in(source, tmp_path / "root")) == {"not an image": 11}
    assert len(Ledger.read(tmp_path / "root/data/raw").quarantined) == 11


def test_what_nobody_may_have_meant_is_told(source: Path, tmp_path: Path) -> None:
    """Folders above the class folders, and classes that come to a dataset which had others, are named in the report."""
    assert take_in(source, tmp_path / "root").notes == []
    for n, place in enumerate(("fog/monday", "hail/monday", "fog/tuesday", "hail/tuesday") * 5):
        (source / place).mkdir(parents=True, exist_ok=True)
        (source / place / f"{n}.jpg").write_bytes(photograph(200 + n))
    new, above = take_in(source, tmp_path / "root").notes
    assert new == "classes that the dataset did not have: monday, tuesday"
    assert above.startswith("a photograph's own folder is its class; those above (fog, hail) tell nothing")
    assert take_in(source, tmp_path / "root").notes == []


@pytest.mark.fault(11, trials=7)
def test_twins(source: Path, tmp_path: Path) -> None:
    """`눈` in NFC and NFD, `Rain` and `rain`: one class each; `A.jpg` beside `a.jpg` are two photographs."""
    places = [
        f"{unicodedata.normalize('NFC', '눈')}/1.jpg",
        f"{unicodedata.normalize('NFD', '눈')}/2.jpg",
        f"{unicodedata.normalize('NFD', '눈')}/{unicodedata.normalize('NFD', '눈')}.jpg",
        f"{unicodedata.normalize('NFD', '눈')}/{unicodedata.normalize('NFC', '눈')}.jpg",
        "Rain/A.jpg",
        "Rain/a.jpg",
        "RAIN /3.jpg",
    ]
    for n, place in enumerate(places):
        (source / place).parent.mkdir(exist_ok=True)
        (source / place).write_bytes(photograph(100 + n))
    if len(list(source.iterdir())) != 6:
        pytest.skip("this file system takes the twins for one")
    report = take_in(source, tmp_path / "root")
    assert Counter(row.label for row in report.accepted) == {"rain": 8, "shine": 5, "눈": 4}
    assert {row.name for row in report.accepted} >= set(places)


def test_a_folder_named_like_a_photograph(source: Path, tmp_path: Path) -> None:
    """`x.jpg/` is a folder: what lies in it is told, and no class is made of its name."""
    (source / "rain/x.jpg").mkdir()
    (source / "rain/x.jpg/1.jpg").write_bytes(photograph(110))
    (source / "shine/empty.jpg").mkdir()
    report = take_in(source, tmp_path / "root")
    assert reasons(report) == {"name not understood": 1}
    assert report.quarantined[0].name == "rain/x.jpg/1.jpg"
    assert len(report.accepted) == 10


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Whoever runs the tests as root is nobody inside, owner of `folder`; others stay who they are."""
    if os.geteuid():
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root cannot become nobody here, and nothing is unreadable to root")
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable_files(source: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file without permission is quarantined as unreadable; the others are taken in."""
    import tempfile

    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to nobody
    try:
        shutil.copytree(source, place / "source")
        (place / "source/rain/0.jpg").chmod(0)
        with nobody(place):
            report = take_in(place / "source", place / "root")
    finally:
        shutil.rmtree(place)
    assert len(report.accepted) == 9
    assert [(bad.name, bad.reason) for bad in report.quarantined] == [("rain/0.jpg", "unreadable file")]


# Row 13


@pytest.mark.fault(13)
def test_too_many_bad_files(source: Path, tmp_path: Path) -> None:
    """30 % bad files stop the ingest with a count, the limit and examples; nothing was taken in."""
    for n in range(4):
        (source / "rain" / f"bad {n}.jpg").write_bytes(b"bad")
    with pytest.raises(InputError, match="4 of 14 files are bad") as caught:
        take_in(source, tmp_path / "root", max_bad=0.25)
    assert "max_bad: 0.25 in params/ingest.yaml" in str(caught.value)
    assert "rain/bad 0.jpg" in str(caught.value)
    assert left(tmp_path / "root") == {".weathervane/examined.sqlite"}
    assert len(take_in(source, tmp_path / "root", max_bad=0.3).accepted) == 10


# Row 46


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    ("keep", "told"),
    [
        ("", "no image at all: at least 2 classes"),
        ("rain/", "only the class 'rain': at least 2 classes"),
        ("rain/ shine/1.jpg", "class 'shine' has 1 images, at least 3"),
    ],
)
def test_too_little(keep: str, told: str, source: Path, tmp_path: Path) -> None:
    """No files, one class, one image in a class: the class and the minimum are named, and nothing is written."""
    for path in source.rglob("*.jpg"):
        if not path.relative_to(source).as_posix().startswith(tuple(keep.split()) or ("-",)):
            path.unlink()
    for folder in source.iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
    with pytest.raises(InputError, match=told):
        take_in(source, tmp_path / "root")
    assert left(tmp_path / "root") == {".weathervane/examined.sqlite"}


@pytest.mark.fault(46)
def test_an_empty_class_folder(source: Path, tmp_path: Path) -> None:
    """A class folder that somebody forgot to fill is named."""
    (source / "snow").mkdir()
    with pytest.raises(InputError, match="the class folder 'snow' is empty"):
        take_in(source, tmp_path / "root")


@pytest.mark.fault(46)
def test_nothing_but_rubbish(source: Path, tmp_path: Path) -> None:
    """Files without a single image among them: stopped by max_bad, or told that no image is there."""
    for path in source.rglob("*.jpg"):
        path.write_bytes(b"no image " + path.name.encode())
    with pytest.raises(InputError, match="10 of 10 files are bad"):
        take_in(source, tmp_path / "root", max_bad=0.5)
    with pytest.raises(InputError, match="no image at all"):
        take_in(source, tmp_path / "root", max_bad=1.0)


# The other formats, through a whole ingest


def test_the_real_type_decides(source: Path, tmp_path: Path) -> None:
    """WebP, BMP, TIFF, GIF, PNG and MPO under .jpg names are taken in, stored under their own ending and noted."""
    more = {"save_all": True, "append_images": [soft(200)]}
    files = {
        "webp.jpg": encoded(soft(120), "WEBP"),
        "bmp.jpg": encoded(soft(121), "BMP"),
        "tiff.jpg": encoded(soft(122), "TIFF", **more),
        "gif.jpg": encoded(soft(123).quantize(64), "GIF", save_all=True, append_images=[soft(1).quantize(64)]),
        "png.jpg": encoded(soft(124), "PNG"),
        "mpo.jpg": encoded(soft(125), "MPO", **more),
        "jpeg.png": encoded(soft(126), progressive=True),
        "upper.JPG": photograph(127),
        "long.jpeg": photograph(128),
    }
    for name, data in files.items():
        (source / "rain" / name).write_bytes(data)
    report = take_in(source, tmp_path / "root")
    rows = {row.name.removeprefix("rain/"): row for row in report.accepted}
    endings = {name: Path(rows[name].path).suffix for name in files}
    assert endings == dict(
        zip(files, [".webp", ".bmp", ".tif", ".gif", ".png", ".jpg", ".jpg", ".jpg", ".jpg"], strict=True)
    )
    for name in ("tiff.jpg", "gif.jpg", "mpo.jpg"):
        assert "first of 2 frames" in rows[name].note
    for name, row in rows.items():
        if name in files:
            assert (tmp_path / "root/data/raw" / row.path).read_bytes() == files[name]


def test_one_picture_under_two_classes(source: Path, tmp_path: Path) -> None:
    """The same bytes as rain and as shine: neither is believed, both are told; the same as rain twice is one."""
    shutil.copy(source / "rain/0.jpg", source / "shine/other.jpg")
    shutil.copy(source / "rain/2.jpg", source / "rain/again.jpg")
    report = take_in(source, tmp_path / "root")
    assert {bad.name for bad in report.quarantined} == {"rain/0.jpg", "shine/other.jpg"}
    assert reasons(report) == {"label conflict": 2}
    assert [set(pair) for pair in report.duplicates] == [{"rain/2.jpg", "rain/again.jpg"}]
