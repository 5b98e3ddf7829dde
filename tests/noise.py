"""Photographs of soft noise: no two are near-duplicates, and no format keeps them badly."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from weathervane.ingest import Ingest, ingest
from weathervane.sorting import Report


def soft(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(seed: int, width: int = 64, height: int = 48) -> bytes:
    return encoded(soft(seed, width, height))


def take_in(source: Path, root: Path, **changes: Any) -> Report:
    """Make a dataset of what is in `source`, however much of it is bad."""
    params = {"dataset": "t", "sources": [{"kind": "local", "path": str(source)}], "test_fraction": 0.2, "folds": 2}
    return ingest(Ingest.model_validate(params | {"seed": 0, "max_bad": 1.0, "min_per_class": 3} | changes), root)
