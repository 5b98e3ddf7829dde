"""decode(): one function from bytes to pixels, for training, scoring and serving."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from weathervane import images, project
from weathervane.images import ENDINGS, FORMATS, MAX_BYTES, BadImage, decode, fit_square, notes, open_image, upright_rgb
from weathervane.model import Model, Spec
from weathervane.store import Store


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width: int, height: int) -> Image.Image:
    """A gradient in three channels, with a soft wave: what JPEG keeps well."""
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    wave = 0.5 + 0.5 * np.sin(6 * x + 4 * y)
    picture = np.dstack([np.broadcast_to(x, (height, width)), np.broadcast_to(y, (height, width)), wave])
    return Image.fromarray((255 * picture).round().astype(np.uint8))


@pytest.mark.parametrize("size", [8, 33, 64, 256])
@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (16, 300), (300, 16), (16, 16)])
def test_pixels_have_the_wanted_shape(shape: tuple[int, int], size: int) -> None:
    """Wide, tall, smaller or larger than the store: always uint8 [size, size, 3]."""
    pixels = decode(encoded(smooth(*shape), "JPEG"), size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("turned", [False, True])
def test_the_centre_square_is_kept(turned: bool) -> None:
    """Of a picture twice as wide (or high) as its other side, exactly the middle half is seen."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :32] = 255, 0, 0
    picture[:, 32:96] = 0, 255, 0
    picture[:, 96:] = 0, 0, 255
    image = Image.fromarray(picture.transpose(1, 0, 2) if turned else picture)
    assert (decode(encoded(image, "PNG"), 64) == (0, 255, 0)).all()


def test_a_picture_of_the_wanted_size_is_not_touched() -> None:
    """No resampling where none is needed."""
    picture = smooth(48, 48)
    assert (decode(encoded(picture, "PNG"), 48) == np.asarray(picture)).all()


@pytest.mark.parametrize("size", [32, 64, 128])
def test_scaled_decoding_is_close_to_full_decoding(size: int) -> None:
    """JPEG's fast scaled decoding costs less than one grey level on a smooth picture."""
    data = encoded(smooth(1600, 1200), "JPEG", quality=92)
    full = fit_square(upright_rgb(open_image(data)), size)
    apart = np.abs(decode(data, size).astype(int) - full)
    assert apart.mean() < 1
    assert apart.max() <= 8


def test_scaled_decoding_keeps_detail() -> None:
    """Scaled decoding stops at twice the wanted size, so fine structure survives it."""
    checks = np.indices((640, 640)).sum(axis=0) // 8 % 2 * 200
    data = encoded(Image.fromarray(checks.astype(np.uint8)).convert("RGB"), "JPEG", quality=95)
    full = fit_square(upright_rgb(open_image(data)), 160)
    assert np.abs(decode(data, 160).astype(int) - full).mean() < 4


def test_scaled_decoding_takes_place() -> None:
    """A large JPEG is not unpacked at its full size: that is where the speed comes from."""
    image = open_image(encoded(smooth(1600, 1200), "JPEG"))
    image.draft(None, (128, 128))
    assert image.size == (200, 150)


def test_training_and_serving_see_equal_pixels(store: Store) -> None:
    """What prepare stored of each image is, to the bit, what decode() gives for its bytes."""
    raw = store.folder.parents[1] / project.RAW
    served = np.stack([decode((raw / path).read_bytes(), store.size) for path in store.manifest["path"]])
    assert len(served) == 80
    assert (served == store.pixels(np.arange(len(served)))).all()


def test_a_model_classifies_bytes_as_it_does_the_store(store: Store) -> None:
    """The probabilities for photograph bytes are those for the stored pixels of the same photographs."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * store.size**2, len(store.classes)))
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(0))
    spec = Spec("test", "dnn", {}, store.size, store.size, store.classes, flip_test=True)
    model = Model(net, spec, torch.device("cpu"))
    rows = np.arange(6)
    raw = store.folder.parents[1] / project.RAW
    photographs = [(raw / path).read_bytes() for path in store.manifest["path"][rows]]
    assert (model.classify(photographs) == model.probabilities(store.pixels(rows))).all()


def test_decoding_in_threads_is_decoding() -> None:
    """Many threads at once give the pixels that one gives, and leave the process's warning filters alone."""
    before = list(warnings.filters)
    photographs = [encoded(smooth(40 + n % 7, 40), ("JPEG", "PNG", "WEBP", "GIF")[n % 4]) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda data: decode(data, 16), photographs))
    assert all((a == decode(data, 16)).all() for a, data in zip(threaded, photographs, strict=True))
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_every_format_of_the_list_is_read(kind: str) -> None:
    """Each allowed format decodes close to the picture that went in, and has an ending to be stored under."""
    image = smooth(64, 64)
    options = {"save_all": True, "append_images": [image.rotate(90)]} if kind == "MPO" else {}
    data = encoded(image.quantize(256) if kind == "GIF" else image, kind, **options)
    assert open_image(data).format == kind
    assert kind in ENDINGS
    assert np.abs(decode(data, 64).astype(int) - np.asarray(image)).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG2000", "ICO", "PPM", "TGA", "PCX", "AVIF"])
def test_no_other_format_is_opened(kind: str) -> None:
    """Formats outside the list are refused even though Pillow could read them."""
    try:
        data = encoded(smooth(64, 64), kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow cannot write {kind}")
    with pytest.raises(BadImage, match="not an image"):
        open_image(data)


def test_limits_are_exact() -> None:
    """16 px a side are enough and 15 are not; a byte above 200 MB is refused unread."""
    assert open_image(encoded(smooth(16, 16), "PNG")).size == (16, 16)
    for width, height in ((15, 400), (400, 15), (1, 1)):
        with pytest.raises(BadImage, match="too small") as caught:
            open_image(encoded(smooth(width, height), "PNG"))
        assert caught.value.reason == "too small"
    with pytest.raises(BadImage, match="too many bytes"):
        open_image(bytes(MAX_BYTES + 1))


def test_notes_say_what_will_change() -> None:
    """Frames, conversion and turning are told in words; an ordinary photograph has nothing to tell."""
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    image = smooth(32, 32)
    assert notes(open_image(encoded(image, "JPEG"))) == []
    assert notes(open_image(encoded(image, "JPEG", exif=exif))) == ["turned upright"]
    assert notes(open_image(encoded(image.convert("CMYK"), "JPEG"))) == ["converted from CMYK"]
    animated = encoded(image.quantize(8), "GIF", save_all=True, append_images=[image.rotate(90).quantize(8)])
    assert notes(open_image(animated)) == ["first of 2 frames", "converted from P"]
