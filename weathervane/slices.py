"""Slices of the test images in which a model must not be worse: dark, bright, low resolution, each source.

Legend: N = images.
"""

from typing import TYPE_CHECKING

import numpy as np

from weathervane.store import Store
from weathervane.traits import traits

if TYPE_CHECKING:
    import pandas as pd

DARK, BRIGHT = 85, 170  # mean luma, 0-255: the lower and the upper third of the scale
LOW = 150  # pixels of the shorter side, as the photograph came in


def slices(store: Store) -> "pd.DataFrame":
    """bool [N, slices] of the test images by sha256; a slice that holds no image, or all of them, is left out."""
    import pandas as pd

    rows = store.part("test")
    luma = 255 * np.concatenate([traits(pixels)["brightness"] for pixels in store.blocks(rows)])
    side = np.minimum(store.manifest["width"], store.manifest["height"])[rows]
    source = store.manifest["source"][rows]
    found = {"dark images": luma < DARK, "bright images": luma > BRIGHT, "images of low resolution": side < LOW}
    found |= {f"images from {name}": source == name for name in np.unique(source).tolist()}
    kept = {name: inside for name, inside in found.items() if inside.any() and not inside.all()}
    return pd.DataFrame(kept, index=store.manifest["sha256"][rows])
