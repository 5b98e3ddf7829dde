"""data/raw → data/prepared: every image decoded once. A pure function, the DVC stage `prepare`.

`python -m weathervane.prepare` is what `dvc repro prepare` runs.
"""

import hashlib
import io
import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
import PIL
from pydantic import Field

from weathervane import images, project
from weathervane.errors import InputError
from weathervane.files import check_room, replacing, sync_folder
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


Pixels = Generator[np.ndarray, None, None]  # uint8 [image_size, image_size, 3] each
Decode = Callable[[Prepare, Path, list[list[Row]]], Pixels]


def decoded(params: Prepare, raw: Path, rows: Iterable[Row]) -> Pixels:
    """uint8 [image_size, image_size, 3] for each row, in their order, decoded by several threads.

    Raises:
        InputError: an image that is missing, changed or no longer decodes.
    """

    def pixels(row: Row) -> np.ndarray:
        try:
            data = (raw / row.path).read_bytes()
            if hashlib.sha256(data).hexdigest() == row.sha256:
                return images.decode(data, params.image_size)
            why = "not the bytes that were taken in"
        except (OSError, images.BadImage) as error:
            why = str(error)
        raise InputError(f"data/raw/{row.path}: {why}: bring it back with 'dvc checkout data/raw.dvc --force'")

    return in_order(pixels, rows)


def decoded_here(params: Prepare, raw: Path, shards: list[list[Row]]) -> Pixels:
    """`decoded` of all the shards' rows."""
    return decoded(params, raw, chain.from_iterable(shards))


def prepare(params: Prepare, root: Path, decode: Decode = decoded_here) -> int:
    """Write the manifest, the pixel store and their checksums anew; returns the number of images, N.

    The store is uint8 [N, image_size, image_size, 3] in shards of `shard` images, in the ledger's order. Shards are
    made in .weathervane/prepare, under names that say of what and by what, so that a killed prepare goes on with the
    first that lacks; it leaves no checksums, and without them the store does not open.

    Raises:
        InputError: no ledger, an image that is missing, changed or no longer decodes, or no room on the disk.
    """
    raw, out, making = root / project.RAW, root / project.PREPARED, root / project.WORK / "prepare"
    rows = Ledger.read(raw).rows
    if not rows:
        raise InputError(f"{project.LEDGER}: nothing ingested yet: run 'weathervane retrain'")

    parts = [rows[first : first + params.shard] for first in range(0, len(rows), params.shard)]
    shards = [making / f"{made_of(params, part)}.npy" for part in parts]
    making.mkdir(parents=True, exist_ok=True)
    for leftover in set(making.iterdir()) - set(shards):
        leftover.unlink()
    lacking = [(shard, part) for shard, part in zip(shards, parts, strict=True) if not shard.is_file()]
    total = sum(len(part) for _, part in lacking)
    check_room(making, total * params.image_size**2 * 3)
    if lacking:
        with closing(decode(params, raw, [part for _, part in lacking])) as found:
            pixels = track(found, "prepare", total)
            for shard, part in lacking:
                _write_shard(shard, (len(part), params.image_size, params.image_size, 3), pixels)
            list(pixels)  # let the bar finish
    _write_manifest(rows, making / MANIFEST)

    for old in (out / SUMS, out / MANIFEST, *out.glob(".*.part")):
        old.unlink(missing_ok=True)
    shutil.rmtree(out / PIXELS, ignore_errors=True)
    (out / PIXELS).mkdir(parents=True)
    for number, shard in enumerate(shards):
        shutil.move(shard, out / shard_name(number))
    sync_folder(out / PIXELS)
    shutil.move(making / MANIFEST, out / MANIFEST)
    sync_folder(out)
    seal(out)
    shutil.rmtree(making)
    return len(rows)


def made_of(params: Prepare, rows: list[Row]) -> str:
    """Another name whenever the pixels of these rows might be others."""
    code = (Path(str(module)).read_bytes() for module in (__file__, images.__file__))
    parts = (PIL.__version__.encode(), params.model_dump_json().encode(), *(row.sha256.encode() for row in rows), *code)
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _write_shard(path: Path, shape: tuple[int, ...], pixels: Iterator[np.ndarray]) -> None:
    """A .npy file, written and not mapped: on a full disk a write is an error, and a page without room a kill."""
    header = io.BytesIO()
    about = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    size = len(header.getvalue()) + math.prod(shape)
    with replacing(path, "wb", size) as file:
        file.write(header.getvalue())
        for _ in range(shape[0]):
            file.write(next(pixels).tobytes())


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
