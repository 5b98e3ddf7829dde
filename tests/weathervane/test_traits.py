"""What is said of a photograph without knowing what it shows."""

import numpy as np
import pytest

from weathervane.traits import TOGETHER, TRAITS, traits

SIZE = 24


def of_one(image: np.ndarray) -> dict[str, float]:
    return {name: float(values[0]) for name, values in traits(image[None]).items()}


def plain(*colour: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), colour, np.uint8)


def test_plain_pictures() -> None:
    """White is 1 bright, black 0; one colour has no contrast and no sharpness; pure red is 1 saturated, grey 0."""
    white = {"brightness": 1, "contrast": 0, "saturation": 0, "sharpness": 0}
    assert of_one(plain(255, 255, 255)) == pytest.approx(white, abs=1e-6)
    assert of_one(plain(0, 0, 0))["brightness"] == 0
    red, grey = of_one(plain(200, 0, 0)), of_one(plain(90, 90, 90))
    assert (red["saturation"], grey["saturation"]) == (1, 0)
    assert red["brightness"] < grey["brightness"]


def test_halves_and_noise() -> None:
    """Half black, half white has the greatest contrast there is; noise is sharper than the same noise blurred."""
    halves = plain(0, 0, 0)
    halves[:, SIZE // 2 :] = 255
    assert of_one(halves)["contrast"] == pytest.approx(0.5)
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    blurred = noise.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean((1, 3)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    assert of_one(noise)["sharpness"] > 2 * of_one(blurred)["sharpness"] > 0


def test_whatever_stands_beside_it() -> None:
    """A picture's numbers are the same to the last bit alone, and anywhere among others; of none there are none."""
    many = np.random.default_rng(0).integers(0, 256, (2 * TOGETHER + 3, SIZE, SIZE, 3), np.uint8)
    found = traits(many)
    assert list(found) == list(TRAITS)
    for place in (0, TOGETHER - 1, TOGETHER, len(many) - 1):
        assert of_one(many[place]) == {name: values[place] for name, values in found.items()}
    assert [len(values) for values in traits(many[:0]).values()] == [0] * len(TRAITS)
