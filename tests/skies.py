"""Rendered skies as a small dataset of a test's own."""

from pathlib import Path

from weathervane.ingest import Ingest, ingest
from weathervane.prepare import Prepare, prepare


def rendered(root: Path, per_class: int, prepared: Prepare, *, folds: int = 4, least: int = 10) -> Path:
    """A project of 4 x `per_class` skies, the same each time, taken in and prepared; at `least` so many a class."""
    params = {"dataset": "skies", "sources": [{"kind": "synthetic", "per_class": per_class, "seed": 0}]}
    params |= {"test_fraction": 0.2, "folds": folds, "seed": 0, "max_bad": 0.0, "min_per_class": least}
    ingest(Ingest.model_validate(params), root)
    prepare(prepared, root)
    return root
