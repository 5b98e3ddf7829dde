"""data/raw → data/prepared: every image decoded once. A pure function, the DVC stage `prepare`.

`python -m weathervane.prepare` is what `dvc repro prepare` runs.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
from pydantic import Field

from weathervane import images, project
from weathervane.errors import InputError
from weathervane.files import replacing
from weathervane.ledger import Ledger, Row
from weathervane.parallel import in_order
from weathervane.params import Strict, load
from weathervane.progress import say, track
from weathervane.store import MANIFEST, PIXELS, SUMS, seal, shard_name


class Prepare(Strict):
    """params/prepare.yaml."""

    # Not `size`: DVC leaves keys of that name out of its run cache's key, and would bring back other pixels.
    image_size: int = Field(ge=8, le=1024)
    shard: int = Field(ge=1, le=1_000_000)


def prepare(params: Prepare, root: Path) -> int:
    """Write the manifest, the pixel store and their checksums anew; returns the number of images, N.

    The store is uint8 [N, image_size, image_size, 3] in shards of `shard` images, in the ledger's order. A killed
    prepare leaves no checksums, and without them the store does not open.

    Raises:
        InputError: no ledger, or an image that is missing, changed or no longer decodes.
    """
    raw, out = root / project.RAW, root / project.PREPARED
    rows = Ledger.read(raw).rows
    if not rows:
        raise InputError(f"{project.LEDGER}: nothing ingested yet: run 'weathervane retrain'")
    for name in (SUMS, MANIFEST):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / PIXELS, ignore_errors=True)
    (out / PIXELS).mkdir(parents=True)

    def pixels(row: Row) -> np.ndarray:
        try:
            data = (raw / row.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != row.sha256:
                raise images.BadImage("checksum mismatch", "not the bytes that were taken in")
            return images.decode(data, params.image_size)
        except (OSError, images.BadImage) as error:
            raise InputError(
                f"data/raw/{row.path}: {error}: bring it back with 'dvc checkout data/raw.dvc --force'"
            ) from None

    decoded = track(in_order(pixels, rows), "prepare", len(rows))
    for first in range(0, len(rows), params.shard):
        count = min(params.shard, len(rows) - first)
        shape = (count, params.image_size, params.image_size, 3)
        shard = np.lib.format.open_memmap(out / shard_name(first // params.shard), "w+", np.uint8, shape)
        for place in range(count):
            shard[place] = next(decoded)
        shard.flush()
    list(decoded)  # let the bar finish
    _write_manifest(rows, out / MANIFEST)
    seal(out)
    return len(rows)


def _write_manifest(rows: list[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ("sha256", "label", "split", "fold", "group", "source", "path", "width", "height")
    table = pa.table({column: [getattr(row, column) for row in rows] for column in columns})
    with replacing(path, "wb") as file:
        pq.write_table(table, file)


def main() -> None:
    """Prepare by hand, with params/prepare.yaml of the project that the working folder is in."""
    root = project.root()
    say(f"{prepare(load(Prepare, root / 'params/prepare.yaml'), root):,} images prepared")


if __name__ == "__main__":
    main()
