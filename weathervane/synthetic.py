"""The project's own weather photographs: skies rendered from numbers, for runs without a network.

Structure tells the classes apart (streaks, disc, texture, direction of the gradient); light, white balance,
exposure, haze and noise vary so much within each class that the mean colour does not. Pictures are float32
(3, H, W), 0 black, 1 where the camera clips; fields are float32 (H, W). `y` (H, 1) and `x` (1, W) count
picture heights from the top left corner, so that circles are round.
"""

# Why no sin, exp, power, dot, float sum, rng.normal, rng.uniform, np.interp or Pillow polygon: the sha256 of
# an image is its identity in the ledger, so its bytes must not depend on the processor, and those differ in
# the last bit between SIMD widths and where a compiler fuses multiply and add. What is used is exact by
# IEEE 754 or done in integers: + - * / sqrt, comparisons, rng.random, rng.integers, box blur by whole
# pixels, JPEG.

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]
Rng = np.random.Generator

CLASSES = ("cloudy", "rain", "shine", "sunrise")


def images(per_class: int = 100, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(name, JPEG bytes) of `per_class` images a class, class by class: cloudy/cloudy001.jpg, …

    Their indices, which the names carry, begin at 1, so a larger `per_class` adds images and changes none.
    """
    for label in CLASSES:
        for index in range(1, per_class + 1):
            yield f"{label}/{label}{index:03d}.jpg", render(label, index, seed)


def render(label: str, index: int, seed: int = 0) -> bytes:
    """One RGB JPEG, 160x120 to 240x180 pixels, now and then upright (120x160 to 180x240).

    A pure function of its arguments: with the same numpy and Pillow, the same bytes on every machine. `index`
    and `seed` are whole numbers >= 0. Raises ValueError for a label that is not in `CLASSES`.
    """
    if label not in CLASSES:
        raise ValueError(f"label: {label!r} is none of {', '.join(CLASSES)}")
    return _photograph(*_scene(label, index, seed))


def _scene(label: str, index: int, seed: int) -> tuple[Rng, Array, Array, Array]:
    """The generator, the light (3, H, W) that reaches the camera, y and x."""
    rng = np.random.default_rng([seed, CLASSES.index(label), index])
    short = int(rng.integers(120, 181))
    long = min(240, max(160, int(short * _between(rng, 1.2, 1.6))))
    height, width = (long, short) if rng.random() < 0.12 else (short, long)
    y = (np.arange(height, dtype=np.float32) / np.float32(height))[:, None]
    x = (np.arange(width, dtype=np.float32) / np.float32(height))[None, :]
    horizon = _between(rng, 0.65, 1.0)
    picture = _SKIES[label](rng, y, x, horizon)
    backlit, wet = {"sunrise": (0.9, 0.3), "rain": (0.4, 0.8)}.get(label, (0.4, 0.3))
    picture = _land(rng, picture, y, x, horizon, rng.random() < backlit, rng.random() < wet)
    if label == "rain":
        picture = _rainfall(rng, picture)
    return rng, picture, y, x


def _between(rng: Rng, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _colour(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)[:, None, None]


def _tint(rng: Rng, low: float, high: float) -> Array:
    return _colour(_between(rng, low, high), _between(rng, low, high), _between(rng, low, high))


def _cast(warm: float, green: float = 0.0) -> Array:
    """White under light that is warmer (> 0) or cooler (< 0) than daylight."""
    return _colour(1 + warm, 1 + 0.25 * warm + green, 1 - warm)


def _mix(a: Array, b: Array, t: Array | float) -> Array:
    return a + (b - a) * t


def _ramp(field: Array, low: float, high: float) -> Array:
    """Smoothstep: 0 up to `low`, 1 from `high` on."""
    t = np.clip((field - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _spline(grid: Array, at: Array) -> Array:
    """The rows of `grid` at the fractional places `at` (N,), by Catmull and Rom's cubic (1974)."""
    i = at.astype(np.intp)
    t = (at - i.astype(np.float32))[:, None]
    s = 1 - t
    near = (2 + t * t * (3 * t - 5)) * grid[i + 1] + (2 + s * s * (3 * s - 5)) * grid[i + 2]
    return (near - t * s * s * grid[i] - s * t * t * grid[i + 3]) / 2


def _noise(rng: Rng, y: Array, x: Array, octaves: int = 5) -> Array:
    """Fractal value noise (H, W), stretched to 0..1; `y`, `x` >= 0 count the cells of the coarsest octave."""
    total = np.zeros((y.size, x.size), np.float32)
    for scale in (np.float32(1 << octave) for octave in range(octaves)):
        v, u = (axis.ravel() * scale + np.float32(rng.random()) for axis in (y, x))
        grid = rng.random((int(u.max()) + 4, int(v.max()) + 4), dtype=np.float32)
        total += _spline(np.ascontiguousarray(_spline(grid, u).T), v) / scale
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def _deck(rng: Rng, y: Array, x: Array, horizon: float, flat: float = 1.0) -> Array:
    """Noise on a ceiling in perspective: the rows of a cloud deck draw together towards the horizon."""
    zoom = _between(rng, 2.5, 5)
    return _noise(rng, (flat * zoom) / (np.abs(horizon - y) + 0.35), x * (0.6 * zoom))


def _glow(y: Array, x: Array, at: tuple[float, float], radius: float) -> Array:
    """1 at the place `at`, a half at `radius`, falling off with the square of the distance."""
    dy, dx, area = y - np.float32(at[0]), x - np.float32(at[1]), np.float32(radius * radius)
    return area / (area + dy * dy + dx * dx)


def _disc(y: Array, x: Array, at: tuple[float, float], radius: float, soft: float = 0.008) -> Array:
    dy, dx = y - np.float32(at[0]), x - np.float32(at[1])
    return np.clip((np.float32(radius) - np.sqrt(dy * dy + dx * dx)) / np.float32(soft) + 0.5, 0, 1)


def _clouds(rng: Rng, sky: Array, deck: Array, cover: float, edge: float, light: Array, dark: Array) -> Array:
    """Lay clouds over a sky: lit where they thicken downwards, dark where they are thick."""
    step, bare = deck.shape[0] // 40, 1 - cover
    slope = deck - np.concatenate([deck[:step], deck[:-step]])
    lit = np.clip(0.6 + _between(rng, 2, 5) * slope - _between(rng, 0.4, 1.0) * (deck - bare), 0, 1)
    return _mix(sky, _mix(dark, light, lit), _ramp(deck, bare - edge, bare + edge))


def _sky_cloudy(rng: Rng, y: Array, x: Array, horizon: float) -> Array:
    white, grey = _cast(_between(rng, -0.08, 0.12)), _between(rng, 0.4, 0.9)
    gap = _mix(_colour(0.25, 0.45, 0.8), white * grey, _between(rng, 0.1, 1))
    sky = _mix(gap, white * grey * _between(rng, 0.8, 1.2), _ramp(y, -0.1, horizon))
    for _ in range(int(rng.integers(1, 4))):
        light = white * min(1.05, grey * _between(rng, 1.15, 1.7))
        dark = white * grey * _between(rng, 0.4, 0.75)
        cover, edge = _between(rng, 0.5, 0.8), _between(rng, 0.08, 0.25)
        sky = _clouds(rng, sky, _deck(rng, y, x, horizon), cover, edge, light, dark)
    veiled = _glow(y, x, (_between(rng, 0, horizon), _between(rng, 0, x.max())), _between(rng, 0.1, 0.3))
    return sky + white * veiled * max(0.0, _between(rng, -0.6, 0.5))


def _sky_rain(rng: Rng, y: Array, x: Array, horizon: float) -> Array:
    grey = _cast(_between(rng, -0.12, 0.18)) * _between(rng, 0.25, 0.6)
    sky = _mix(grey * _between(rng, 0.6, 1.1), grey * _between(rng, 0.9, 1.6), _ramp(y, 0, horizon))
    return _clouds(rng, sky, _deck(rng, y, x, horizon), _between(rng, 0.5, 0.8), 0.3, grey * 1.3, grey * 0.55)


def _sky_shine(rng: Rng, y: Array, x: Array, horizon: float) -> Array:
    blue, pale = _colour(0.08, 0.3, 0.85) * _between(rng, 0.6, 1.05), _between(rng, 0, 1)
    top = _mix(blue, _colour(0.7, 0.8, 0.92), 0.8 * pale * pale)
    sky = _mix(top, _colour(1, 0.95, 0.86), _between(rng, 0.3, 0.8) * _ramp(y, -0.1, horizon))
    dark = _mix(top, _colour(0.8, 0.8, 0.8), 0.7)
    deck, cover = _deck(rng, y, x, horizon), _between(rng, 0.05, 0.5)
    sky = _clouds(rng, sky, deck, cover, 0.07, _colour(1.05, 1.03, 1), dark)
    at = (_between(rng, -0.08, 0.55 * horizon), _between(rng, -0.08, x.max() + 0.08))
    return _sun(rng, sky, y, x, at, _colour(1, 0.96, 0.86))


def _sky_sunrise(rng: Rng, y: Array, x: Array, horizon: float) -> Array:
    low = _mix(_colour(1, 0.42, 0.12), _colour(1, 0.78, 0.45), _between(rng, 0, 1))
    high = _mix(_colour(0.12, 0.18, 0.45), _colour(0.55, 0.4, 0.5), _between(rng, 0, 1))
    pale = _mix(_colour(0.7, 0.72, 0.78), _colour(0.85, 0.75, 0.66), _between(rng, 0, 1))
    sky = _mix(_mix(high, low, _ramp(y, -0.1, horizon)), pale, _between(rng, 0, 0.6))
    deck, cover = _deck(rng, y, x, horizon, flat=_between(rng, 1.2, 2.5)), _between(rng, 0.1, 0.7)
    sky = _clouds(rng, sky, 1 - deck, cover, 0.2, low * 1.05, high * 0.8)
    at = (horizon - _between(rng, -0.04, 0.24), _between(rng, 0.08, 0.92) * float(x.max()))
    return _sun(rng, sky, y, x, at, _mix(low, _colour(1, 0.95, 0.8), 0.6))


def _sun(rng: Rng, sky: Array, y: Array, x: Array, at: tuple[float, float], colour: Array) -> Array:
    """A disc in its halo; now and then the star of a small aperture and the ghosts of a lens."""
    radius = _between(rng, 0.02, 0.055)
    light = 1.5 * _disc(y, x, at, radius) + _between(rng, 0.05, 0.4) * _glow(y, x, at, 0.4)
    light = light + _between(rng, 0.5, 1.0) * _glow(y, x, at, radius * _between(rng, 1.5, 3.5))
    near = _glow(y, x, at, 0.12)
    for t in (_between(rng, -1, 1) for _ in range(int(rng.integers(-5, 5)))):
        across = ((1 - t * t) * (y - at[0]) - 2 * t * (x - at[1])) / (1 + t * t)
        light = light + 0.00002 / (0.00003 + across * across) * near
    sky = sky + colour * light
    for reach in (_between(rng, 0.4, 2.2) for _ in range(int(rng.integers(-5, 5)))):
        ghost = (at[0] + reach * (0.5 - at[0]), at[1] + reach * (float(x.max()) / 2 - at[1]))
        sky = sky + _tint(rng, 0, 0.15) * _disc(y, x, ghost, _between(rng, 0.015, 0.07), 0.02)
    return sky


def _ridge(rng: Rng, x: Array) -> Array:
    """Heights (1, W) above the horizon of hills, or of firs, bushes or buildings on low hills."""
    hills = _noise(rng, x[:, :1], x * _between(rng, 0.8, 2.5), 4) * _between(rng, 0.02, 0.2)
    kind = int(rng.integers(4))
    line = hills if kind == 0 else 0.4 * hills
    for _ in range(int(rng.integers(4, 22)) if kind else 0):
        tall = _between(rng, 0.04, 0.2)
        half = tall * _between(rng, 0.2, 0.35) * (1, 1, 2, 1.2)[kind]
        t = np.clip(1 - np.abs(x - np.float32(_between(rng, 0, x.max()))) / np.float32(half), 0, 1)
        leaves = 0.85 + 0.15 * rng.random(x.shape, dtype=np.float32)
        mast = (t > 0.88) * np.float32(max(0.0, _between(rng, -1, 0.5)))
        shape = (t, t * leaves, np.sqrt(t * (2 - t)) * leaves, 1.4 * (t > 0) + mast)[kind]
        line = np.maximum(line, shape.astype(np.float32) * np.float32(tall))
    return line


def _land(rng: Rng, sky: Array, y: Array, x: Array, horizon: float, backlit: bool, wet: bool) -> Array:
    """One to three ridges before the sky, the far ones in haze; below them ground, or water that mirrors."""
    picture, height = sky, sky.shape[1]
    light = _between(rng, 0.03, 0.14) if backlit else _between(rng, 0.15, 0.45)
    base = _colour(0.95, 1, 0.85) * _tint(rng, 0.75, 1.05) * light
    row, column = int(horizon * height), int(rng.integers(x.size))
    air = np.minimum(sky[:, row - 1 : row, column : column + 1], np.float32(1))
    for distance in range(int(rng.integers(0, 3)), -1, -1):
        mask = np.clip((y - np.float32(horizon) + _ridge(rng, x)) * height, 0, 1)
        picture = _mix(picture, _mix(base, air, 0.35 * distance), mask)
    below = np.clip((y - np.float32(horizon)) * height, 0, 1)
    picture = _mix(picture, base * (0.8 + _noise(rng, 3 / (np.abs(y - horizon) + 0.1), x * 3, 4)), below)
    if not wet:
        return picture
    rows = np.clip(2 * row - np.arange(height), 0, height - 1)[:, None]
    columns = np.clip(np.arange(x.size) + rng.integers(-3, 4, (height, 1)), 0, x.size - 1)
    return _mix(picture, picture[:, rows, columns] * np.float32(0.85), below * _between(rng, 0.4, 0.9))


def _rainfall(rng: Rng, picture: Array) -> Array:
    """Streaks far and near, and drops on the lens, which show the scene upside down."""
    _, height, width = picture.shape
    slope, veil = _between(rng, -0.5, 0.5), _between(rng, 0.15, 0.6)
    for length, share in ((height // 14, 0.012), (height // 7, 0.004), (height // 4, 0.0012)):
        streaks = _streaks(rng, height, width, length, slope, share * _between(rng, 0.3, 1.2))
        picture = picture + streaks * veil * (1.1 - picture)
    for _ in range(max(0, int(rng.integers(-10, 12)))):
        r = int(rng.integers(height // 40, height // 12))
        top, left = int(rng.integers(0, height - 2 * r)), int(rng.integers(0, width - 2 * r))
        v, u = np.arange(-r, r)[:, None], np.arange(-r, r)[None, :]
        seen = picture[:, np.clip(top + r - 4 * v, 0, height - 1), np.clip(left + r - 4 * u, 0, width - 1)]
        lens = 1 + v.astype(np.float32) / np.float32(2 * r)
        inside = np.clip(r - np.sqrt((v * v + u * u).astype(np.float32)), 0, 1)
        patch = picture[:, top : top + 2 * r, left : left + 2 * r]
        patch[...] = _mix(patch, seen * lens + np.float32(0.06), inside)
    return picture


def _streaks(rng: Rng, height: int, width: int, length: int, slope: float, density: float) -> Array:
    """Parallel oblique lines (H, W) in 0..1: sparse points, smeared along the way they fall."""
    side = int(length * abs(slope)) + 2
    points = rng.random((height + length, width + 2 * side), dtype=np.float32)
    points = np.where(points < np.float32(density), points / np.float32(density), 0)
    total = np.zeros((height, width), np.float32)
    for step in range(length):
        place = side + slope * (step - length / 2)
        left, part = int(place), np.float32(place - int(place))
        rows = points[step : step + height]
        total += rows[:, left : left + width] * (1 - part) + rows[:, left + 1 : left + 1 + width] * part
    return np.clip(total, 0, 1)


def _photograph(rng: Rng, picture: Array, y: Array, x: Array) -> bytes:
    """The camera: haze, white balance, exposure, saturation, vignette, noise, focus, and JPEG."""
    haze = _between(rng, 0.55, 0.9) * _tint(rng, 0.9, 1)
    picture = _mix(picture, haze, _between(rng, 0, 1) * _between(rng, 0, 0.7))
    balance = _cast(_between(rng, -0.16, 0.16), _between(rng, -0.04, 0.04))
    picture = picture * balance * _between(rng, 0.7, 1.3)
    picture = _mix(picture, picture[1:2], _between(rng, -0.15, 0.45))
    corners = _glow(y, x, (0.5, float(x.max()) / 2), _between(rng, 1.2, 4.0))
    grain = rng.random(picture.shape, dtype=np.float32) - rng.random(picture.shape, dtype=np.float32)
    picture = picture * corners + grain * (_between(rng, 0.1, 0.3) * _between(rng, 0.1, 0.3))
    pixels = (np.clip(picture, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.BoxBlur(1))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(60, 93)))
    return file.getvalue()


_Sky = Callable[[Rng, Array, Array, float], Array]
_SKIES: dict[str, _Sky] = dict(zip(CLASSES, (_sky_cloudy, _sky_rain, _sky_shine, _sky_sunrise), strict=True))
