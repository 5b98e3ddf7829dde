"""From bytes to pixels: the one way in which every photograph is read, in training, scoring and serving.

Legend: H, W = height, width; pixels are uint8 0-255, RGB.
"""

import io
import math
import warnings
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Only these readers are ever tried: Pillow's others include one that starts Ghostscript.
# An MPO (several JPEGs in one file) is opened by the reader for JPEG.
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
ENDINGS = FORMATS | {"MPO": ".jpg"}
MIN_SIDE = 16
MAX_PIXELS = 80_000_000
MAX_BYTES = 200_000_000
ORIENTATION, TILE_WIDTH, TILE_LENGTH = 0x0112, 0x0142, 0x0143  # tags of TIFF, and of EXIF, which is one
PHOTOMETRIC, WHITE_IS_ZERO = 0x0106, 0
# EXIF orientation → what turns the picture upright. 1 is upright, and whatever else stands there is taken for it.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = {TURNS[orientation] for orientation in (5, 6, 7, 8)}  # width and height change places

# Pillow's remarks on damaged files: what matters of them is a BadImage here. Once, because a filter that is
# set and reset around each call is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

Reason = Literal[
    "empty",
    "not an image",
    "truncated",
    "too small",
    "too many pixels",
    "too many bytes",
    "unreadable mode",
    "unreadable file",
    "label conflict",
    "name not understood",
    "outside the source",
    "checksum mismatch",
]


class BadImage(ValueError):
    """Bytes that cannot be used as a photograph; `reason` is one of a closed list."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason: Reason = reason
        self.detail = " ".join(detail.split())  # one line, whatever a reader had to say
        super().__init__(f"{reason}: {self.detail}")


def open_image(data: bytes) -> Image.Image:
    """A lazily opened image of an allowed format and size; no pixel is decoded yet.

    Raises:
        BadImage: empty, not an image, truncated (the header does not parse), too small (a side under 16 px),
            too many pixels (over 80 million, in the picture or in one tile of a TIFF), too many bytes.
    """
    if not data:
        raise BadImage("empty", "0 bytes")
    if len(data) > MAX_BYTES:
        raise BadImage("too many bytes", f"{len(data):,} bytes, at most {MAX_BYTES:,}")
    try:
        image = Image.open(io.BytesIO(data), formats=list(FORMATS))
        tags = getattr(image, "tag_v2", {})
        tile = int(tags.get(TILE_WIDTH, 0)), int(tags.get(TILE_LENGTH, 0))
    except UnidentifiedImageError:
        raise BadImage("not an image", f"none of {', '.join(FORMATS)} in the first bytes") from None
    except Image.DecompressionBombError as error:
        raise BadImage("too many pixels", str(error)) from None
    except Exception as error:  # a reader of a damaged header may raise anything at all
        raise BadImage("truncated", f"header: {error}") from None
    if min(image.size) < MIN_SIDE:
        raise BadImage("too small", f"{image.width}x{image.height}, at least {MIN_SIDE} px a side")
    width, height = max(image.size, tile, key=math.prod)
    if width * height > MAX_PIXELS:
        raise BadImage("too many pixels", f"{width}x{height}, at most {MAX_PIXELS:,} pixels")
    return image


def notes(image: Image.Image) -> list[str]:
    """What will be changed on the way to upright RGB, in words; cheap, before any pixel is decoded.

    Raises:
        BadImage: truncated: a later frame has a damaged header, and where the first one ends is not sure.
    """
    found = []
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # a reader of a damaged header may raise anything at all
        raise BadImage("truncated", f"header of a later frame: {error}") from None
    if frames > 1:
        found.append(f"first of {frames} frames")
    if image.mode != "RGB":
        found.append(f"converted from {image.mode}")
    if _turn(image) is not None:
        found.append("turned upright")
    return found


def upright_rgb(image: Image.Image) -> Image.Image:
    """`upright`, in RGB whatever it was.

    Raises:
        BadImage: as `upright`.
    """
    turned = upright(image)
    return turned if turned.mode == "RGB" else turned.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """First frame, EXIF orientation applied, 8-bit RGB, or L where it is grey.

    16-bit grey is scaled by 1/257 (Pillow's own conversion clips it to white), grey of 32 bits by its range
    (0-255 or 0-65535; floating-point grey 0-1 as well), transparency is laid over white, CMYK and palettes are
    converted as Pillow does. Colour profiles are not applied.

    Raises:
        BadImage: truncated or damaged pixel data, or a mode without a conversion.
    """
    try:
        image.load()
        negative = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
        if (turn := _turn(image)) is not None:
            image = image.transpose(turn)
        if image.mode.startswith(("I", "F")):
            return _from_deep_grey(image, negative)
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            over = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
        return image if image.mode in ("RGB", "L") else image.convert("RGB")
    except BadImage:
        raise
    except (OSError, SyntaxError, EOFError, IndexError) as error:
        raise BadImage("truncated", str(error)) from None
    except Exception as error:  # a decoder of damaged bytes may raise anything at all
        raise BadImage("unreadable mode", f"{image.mode}: {error}") from None


def sides(image: Image.Image) -> tuple[int, int]:
    """Width and height of the picture upright, before any pixel is decoded; Pillow opens a TIFF so already."""
    lies = _turn(image) in LYING and image.format != "TIFF"
    return image.size[::-1] if lies else image.size


def _turn(image: Image.Image) -> Image.Transpose | None:
    """By the EXIF orientation; None where there is none, or where the EXIF block is damaged, not the picture."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a reader of damaged bytes may raise anything at all
        return None


def _from_deep_grey(image: Image.Image, negative: bool) -> Image.Image:
    """What Pillow does to 8-bit grey alone: `negative` TIFFs are turned round, the grey that stands for transparent
    becomes white."""
    deep = np.asarray(image).astype(np.float32)  # each of 65,536 greys becomes the byte that float64 makes of it
    brightest = deep.max(initial=0)
    if not (deep.min(initial=0) >= 0 and brightest <= 65535):  # NaN is neither
        raise BadImage("unreadable mode", f"{image.mode} with values outside 0-65535")
    sixteen = image.mode.startswith("I;16") or brightest > 255
    scale = 257.0 if sixteen else 1.0 if image.mode == "I" or brightest > 1 else 1 / 255
    grey = (deep / scale + 0.5).clip(0, 255).astype(np.uint8)
    if negative:
        grey = 255 - grey
    if isinstance(clear := image.info.get("transparency"), int):
        grey[deep == clear] = 255
    return Image.fromarray(grey, "L")


def decode(data: bytes, size: int) -> np.ndarray:
    """Photograph bytes to pixels, uint8 [size, size, 3].

    The shorter side becomes `size`, then the centre square is kept: what lies at the far ends of a wide
    picture is not seen. JPEGs are decoded at the smallest of their scales (1, 1/2, 1/4, 1/8) that still has
    twice the wanted resolution, then resized with an antialiased bicubic filter.

    Raises:
        BadImage: with a reason of the closed list.
    """
    return shrunk(open_image(data), size)


def shrunk(image: Image.Image, size: int) -> np.ndarray:
    """`decode`, of an image that was opened and not yet read.

    Raises:
        BadImage: as `upright`.
    """
    image.draft(None, (2 * size, 2 * size))
    return fit_square(upright_rgb(image), size)


def fit_square(image: Image.Image, size: int) -> np.ndarray:
    """Centre square of an upright RGB image, uint8 [size, size, 3]."""
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
