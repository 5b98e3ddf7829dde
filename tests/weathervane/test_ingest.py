"""Taking photographs in: where newcomers are placed, and what the ledger says when."""

# ruff: noqa: F811

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.faults.test_scale import params, source  # noqa: F401
from weathervane.duplicates import Signature
from weathervane.ingest import _place, ingest, unchanged
from weathervane.ledger import Ledger, Row
from weathervane.sorting import Newcomer
from weathervane.splits import EXCLUDED, TRAIN

MARK = Signature(np.uint64(7), np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8))
ROW = Row("a" * 64, "rain", "s", "a.jpg", 1, "g1", TRAIN, 1, 9, 9, "", "rain/a.jpg")


def newcomer(sha: str, mark: Signature = MARK) -> Newcomer:
    picture = SimpleNamespace(signature=mark, format="JPEG", size=(9, 9), notes="")
    return Newcomer(sha * 64, "rain", "s", f"{sha}.jpg", picture)  # type: ignore[arg-type]


def test_a_group_is_named_by_its_bytes_not_by_the_order_of_files(tmp_path: Path, source: Path) -> None:
    """Of two copies that arrive together the smaller sha256 names the group, in whatever order they are listed, as its
    name decides the split."""
    rows = [_place(params(source), Ledger(tmp_path), [newcomer(one) for one in order], []) for order in ("cd", "dc")]
    assert rows[0] == rows[1] and {row.group for row in rows[0]} == {"c" * 12}


def test_a_copy_of_an_image_that_is_kept_out_joins_the_one_group_that_it_is_like(tmp_path: Path, source: Path) -> None:
    """A newcomer that is like an image of a group and like an excluded one gets the place of the group, because what is
    excluded is nobody's evidence."""
    ledger = Ledger(tmp_path)
    ledger.rows = [ROW, replace(ROW, sha256="b" * 64, split=EXCLUDED, fold=-1)]
    (row,) = _place(params(source), ledger, [newcomer("c")], [MARK, MARK])
    assert (row.group, row.split, row.fold) == ("g1", TRAIN, 1)


def test_another_ledger_is_a_change(source: Path, tmp_path: Path) -> None:
    """After a `git pull` that brought another ledger, the same sources are looked at again."""
    ingest(params(source), tmp_path)
    assert unchanged(params(source), tmp_path)
    ledger = Ledger.read(tmp_path / "data/raw")
    ledger.rows.pop()
    ledger.write()
    assert not unchanged(params(source), tmp_path)


def test_the_ledger_moves_in_last(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data/raw keeps the old ledger until every image that the new one names is in its place."""
    moved, real = [], shutil.move
    monkeypatch.setattr(shutil, "move", lambda old, new: (moved.append(Path(new).name), real(old, new)))
    ingest(params(source), tmp_path)
    assert len(moved) > 12 and moved.index("ledger.csv") == len(moved) - 1


def test_few_newcomers_fill_the_test_part_that_many_images_need(tmp_path: Path, source: Path) -> None:
    """A night's few photographs go to test as long as the whole class has too few there."""
    rng, ledger = np.random.default_rng(2), Ledger(tmp_path)
    hashes, greys = rng.integers(2**63, size=34, dtype=np.uint64), rng.integers(0, 256, (34, 32, 32), np.uint8)
    marks = [Signature(dhash, grey) for dhash, grey in zip(hashes, greys, strict=True)]
    newcomers = [newcomer(sha, mark) for sha, mark in zip("cdef", marks[30:], strict=True)]
    ledger.rows = [replace(ROW, sha256=f"{n:064x}", group=f"g{n}", fold=n % 2) for n in range(30)]
    rows = _place(params(source), ledger, newcomers, marks[:30])
    assert [row.split for row in rows] == ["test"] * 4


def test_a_row_says_which_ingest_brought_it(source: Path, tmp_path: Path) -> None:
    """Accepted and quarantined images bear the number of the ingest that brought them, counted from 1."""
    ingest(params(source), tmp_path)
    ledger = Ledger.read(tmp_path / "data/raw")
    assert {row.first_seen for row in ledger.rows} == {ledger.ingests} == {1}
    assert {bad.first_seen for bad in ledger.quarantined} == {1}
