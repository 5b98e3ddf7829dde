"""The rendered skies: the same bytes everywhere, and no classifier by mean colour alone."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weathervane import synthetic
from weathervane.synthetic import CLASSES, images, render

# sha256 of the first three images a class, one after the other (numpy 2.4.6, Pillow 13.0.0).
PINNED = "4b3272ec0ab00d768c72e882ef0d7f5b83007d476efc343a8e547f792e19416b"


def _digest() -> str:
    return hashlib.sha256(b"".join(blob for _, blob in images(per_class=3))).hexdigest()


@pytest.fixture(scope="module")
def skies() -> dict[str, bytes]:
    return dict(images())


@pytest.mark.slow
def test_an_image_depends_on_label_index_and_seed_only(skies: dict[str, bytes]) -> None:
    """Rendered again, out of order, an image has the same bytes; another index or seed, another image."""
    for label in reversed(CLASSES):
        again = render(label, 7)
        assert again == skies[f"{label}/{label}007.jpg"]
        assert again not in (render(label, 8), render(label, 7, seed=1))


def test_the_renderer_has_not_changed() -> None:
    """The default dataset is the one that earlier ledgers, splits and models speak of.

    After an intended change of the renderer, or where a new numpy or Pillow draws or encodes otherwise, pin
    anew and say so in the changelog: every sha256 in the ledger of a synthetic `data/raw` changes with it.
    """
    assert _digest() == PINNED


def _digest_of_light() -> str:
    """As `_digest`, before rounding to 8 bits can hide a difference in the last bit of a float32."""
    light = (synthetic._scene(label, index, 0)[1].tobytes() for label in CLASSES for index in (1, 2, 3))
    return hashlib.sha256(b"".join(light)).hexdigest()


def test_the_bytes_do_not_depend_on_the_processor() -> None:
    """With the vector instructions switched off, in numpy and in the JPEG encoder, no bit changes."""
    vector = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(vector), "JSIMD_FORCENONE": "1"}
    code = f"""if True:
        import sys
        sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}
        import test_synthetic
        print(test_synthetic._digest(), test_synthetic._digest_of_light())"""
    run = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [_digest(), _digest_of_light()]


@pytest.mark.slow
def test_the_default_dataset_is_400_different_photographs(skies: dict[str, bytes]) -> None:
    """100 different RGB JPEGs a class, 160x120 or larger (upright: 120x160), named by class and number."""
    assert list(skies) == [f"{label}/{label}{n:03d}.jpg" for label in CLASSES for n in range(1, 101)]
    assert len({hashlib.sha256(blob).digest() for blob in skies.values()}) == 400
    shapes = set()
    for blob in skies.values():
        with Image.open(io.BytesIO(blob)) as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert min(image.size) >= 120 and max(image.size) >= 160
            shapes.add(image.width > image.height)
    assert shapes == {True, False}


@pytest.mark.slow
def test_the_mean_colour_is_no_classifier(skies: dict[str, bytes]) -> None:
    """A logistic regression on an image's mean red, green and blue stays under 80 %."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pixels = [np.asarray(Image.open(io.BytesIO(blob))) for blob in skies.values()]
    means = np.stack([image.reshape(-1, 3).mean(axis=0) for image in pixels])
    labels = [name.split("/")[0] for name in skies]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(model, means, labels, cv=folds).mean() < 0.8


def test_an_unknown_label_is_refused_by_name() -> None:
    """A misspelt class is named, with the classes that there are."""
    with pytest.raises(ValueError, match=r"'snow' is none of cloudy, rain, shine, sunrise"):
        render("snow", 1)
