"""fault 43: a file that changes between prepare and train is named, and nothing is trained or scored on it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.skies import rendered
from weathervane import prepare as prepare_module
from weathervane.errors import InputError
from weathervane.prepare import Prepare, prepare
from weathervane.store import Store, changed
from weathervane.train import train

PARAMS = Prepare(image_size=32, shard=15)
VARIANT = {
    "family": "dnn",
    "size": 16,
    "flip_test": False,
    "network": {"hidden": [8, 8], "activation": "relu", "norm": True, "dropout": 0.0, "input_size": 8},
    "augment": {"crop": [1, 1], "ratio": 1, "rotate": 0, "flip": False, "brightness": 0, "contrast": 0}
    | {"saturation": 0, "erase": 0, "mixup": 0, "cutmix": 0},
    "train": {"epochs": 1, "batch": 8, "optimizer": "adamw", "lr": 1e-3, "warmup": 0.2, "weight_decay": 0.0}
    | {"label_smoothing": 0.0, "ema": 0},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 x 10 rendered skies in three shards. Read only."""
    return rendered(tmp_path_factory.mktemp("made"), 10, PARAMS, folds=2, least=3)


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mine"))


def files(root: Path) -> list[Path]:
    prepared = root / "data/prepared"
    return [prepared / "manifest.parquet", *sorted((prepared / "pixels").iterdir())]


def flip(path: Path, rng: np.random.Generator) -> None:
    """One bit of a file, wherever it may be."""
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


@pytest.mark.fault(43, trials=50)
def test_any_flipped_bit_is_noticed_and_its_file_named(made: Path, mine: Path) -> None:
    """50 of 50: one bit anywhere in the manifest or in a shard, and the store does not open."""
    rng = np.random.default_rng(0)
    for number in range(50):
        path, whole = files(mine)[number % 4], files(made)[number % 4]
        flip(path, rng)
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: not as it was prepared: run 'weathervane"):
            Store(mine / "data/prepared")
        shutil.copy2(whole, path)
    assert (
        Store(mine / "data/prepared").manifest["sha256"].tolist()
        == Store(made / "data/prepared").manifest["sha256"].tolist()
    )


@pytest.mark.fault(43)
@pytest.mark.parametrize("what", ["removed", "cut", "added", "relabelled", "another version", "checksums removed"])
def test_whatever_changes_is_named(mine: Path, what: str) -> None:
    """A shard that is gone, cut, or too many; labels edited in a table program; a shard of another preparation."""
    prepared = mine / "data/prepared"
    manifest, shard = files(mine)[:2]
    named = shard
    if what == "removed":
        shard.unlink()
    elif what == "cut":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif what == "added":
        named = shard.with_name("00003.npy")
        shutil.copy2(shard, named)
    elif what == "relabelled":
        named, table = manifest, pq.read_table(manifest)
        labels = ["rain", *table["label"].to_pylist()[1:]]
        pq.write_table(table.set_column(table.column_names.index("label"), "label", pa.array(labels)), manifest)
    elif what == "another version":
        np.save(shard, np.load(shard) ^ 1)
    else:
        named = prepared / "SHA256SUMS"
        named.unlink()
    assert changed(prepared) == named.relative_to(prepared).as_posix()
    with pytest.raises(InputError, match=re.escape(str(named))):
        Store(prepared)


@pytest.mark.fault(43)
def test_a_training_refuses_what_changed(mine: Path, tmp_path: Path) -> None:
    """The child that trains says which file it was, and leaves no model; brought back, it trains."""
    job = {"name": "dnn", "variant": VARIANT, "data": str(mine / "data/prepared"), "device": "cpu", "seed": 0}
    folder, shard = tmp_path / "job", files(mine)[2]
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(job | {"fold": 0, "threads": 0}))
    whole = shard.read_bytes()
    flip(shard, np.random.default_rng(1))
    with pytest.raises(InputError, match=r"pixels/00001\.npy: not as it was prepared"):
        train(folder)
    assert not (folder / "model").exists() and not (folder / "outcome.json").exists()
    shard.write_bytes(whole)
    assert train(folder)["best_epoch"] == 1


def test_a_change_while_a_variant_trains_stops_its_scoring(mine: Path) -> None:
    """Training holds its images in memory; whoever opens the store after the change, to score, is refused."""
    store = Store(mine / "data/prepared")
    pixels = store.pixels(np.arange(40))
    assert pixels.shape == (40, 32, 32, 3)
    flip(files(mine)[1], np.random.default_rng(2))
    with pytest.raises(InputError, match=r"pixels/00000\.npy"):
        Store(mine / "data/prepared")


@pytest.mark.fault(43)
def test_a_photograph_that_changed_is_not_prepared(made: Path, mine: Path) -> None:
    """20 of 20: a flipped bit in data/raw, which most decoders accept, is not decoded into the pixel store; the file
    and the command that brings it back are named, and what was prepared before stands."""
    rng = np.random.default_rng(3)
    photographs = sorted((mine / "data/raw").glob("*/*.jpg"))
    for number in rng.choice(len(photographs), 20, replace=False):
        path = photographs[number]
        flip(path, rng)
        with pytest.raises(
            InputError, match=f"{path.name}: not the bytes that were taken in.*dvc checkout data/raw.dvc --force"
        ):
            prepare(PARAMS, mine)
        assert changed(mine / "data/prepared") is None
        shutil.rmtree(mine / ".weathervane/prepare")  # shards that were whole before would be gone on with
        shutil.copy2(made / path.relative_to(mine), path)
    assert prepare(PARAMS, mine) == 40
    assert changed(mine / "data/prepared") is None


def test_the_checksums_are_sha256sums(made: Path) -> None:
    """Anybody can check them with `sha256sum -c SHA256SUMS`; equal data give equal bytes."""
    import subprocess

    prepared = made / "data/prepared"
    told = subprocess.run(["sha256sum", "-c", prepare_module.SUMS], cwd=prepared, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.count(": OK") == 4
