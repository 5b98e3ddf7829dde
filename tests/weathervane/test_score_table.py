"""Tables of predictions: as a list of photographs, and half-written ones that a later run goes on with."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import PIL
import pytest

from weathervane.errors import InputError
from weathervane.score_table import Origin, ScoreTable, check_out, part_of, photographs


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("blank.csv", "source,path\n,a.jpg\n"),
        ("null.jsonl", '{"source": null, "path": "a.jpg"}\n'),
        ("other columns.csv", "a,b\n1,2\n"),
        ("two sources.csv", "source,path\nx,a.jpg\ny,b.jpg\n"),
        ("empty.jsonl", ""),
    ],
)
def test_somebody_elses_table_is_refused(name: str, text: str, tmp_path: Path) -> None:
    """With the file's name, whatever stands where a folder was expected."""
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"{name}: not a table that 'weathervane predict' wrote"):
        photographs(str(tmp_path / name))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_table_names_its_photographs_again(ending: str, tmp_path: Path) -> None:
    """Also those whose names pandas takes for a missing value or a number."""
    (tmp_path / "cam").mkdir()
    called = ["NA", "null", "12", "a.jpg"]
    for name in called:
        (tmp_path / "cam" / name).write_bytes(b"")
    table = ScoreTable(tmp_path / f"t{ending}", Origin(str(tmp_path / "cam"), "models:/weather/1", "md5", ["a", "b"]))
    table.add([{"path": name, "stamp": "", "problem": "empty file"} for name in called])
    table.finish(called)
    assert photographs(str(table.out)).names == called


@pytest.fixture
def begun(tmp_path: Path) -> ScoreTable:
    """A table that was killed after two photographs and in the middle of a third."""
    origin = Origin(str(tmp_path), "models:/weather/1", "md5", ["a", "b"])
    table = ScoreTable(tmp_path / "t.csv", origin)
    table.add([{"path": name, "stamp": "1", "problem": "", "class": "a"} for name in ("x.jpg", "y.jpg")])
    with open(table.part, "ab") as part:
        part.write(b'{"path": "z.jpg", "stamp": "1"}'[:-4])
    return table


def test_a_killed_table_goes_on_where_it_was(begun: ScoreTable) -> None:
    """A torn row and a photograph that changed are scored again, only a photograph's last row counts, and the part file
    goes when the table is finished."""
    table = ScoreTable(begun.out, begun.origin)
    assert table.seen("x.jpg", "1") and not table.seen("x.jpg", "2") and not table.seen("z.jpg", "1")
    rows = [("x.jpg", "2", "", "b"), ("z.jpg", "1", "empty file", None), ("gone.jpg", "1", "", "a")]
    table.add([dict(zip(("path", "stamp", "problem", "class"), row, strict=True)) for row in rows])
    assert table.finish(["x.jpg", "y.jpg", "z.jpg"]) == (3, [("z.jpg", "empty file")])
    found = pd.read_csv(table.out, keep_default_na=False)
    assert dict(zip(found["path"], found["class"], strict=True)) == {"y.jpg": "a", "x.jpg": "b", "z.jpg": ""}
    assert not table.part.exists()


@pytest.mark.parametrize("other", [{"model": "models:/weather/2"}, {"source": "/elsewhere"}, {"data": "other"}])
def test_rows_of_another_origin_are_not_taken_over(begun: ScoreTable, other: dict[str, str]) -> None:
    """A table of another model, another folder or other data is begun anew."""
    table = ScoreTable(begun.out, replace(begun.origin, **other))
    assert not table.seen("x.jpg", "1") and table.part.read_text() == table.origin.head


def test_another_decoders_rows_are_not_taken_over(begun: ScoreTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update of Pillow the table is begun anew, because another version may decode other pixels."""
    monkeypatch.setattr(PIL, "__version__", "0.0")
    assert not ScoreTable(begun.out, begun.origin).seen("x.jpg", "1")


def test_somebody_elses_part_is_left_alone(tmp_path: Path) -> None:
    """A file under the part's name that `predict` did not begin is refused; an empty one is not."""
    part_of(tmp_path / "t.csv").write_text("mine\n")
    with pytest.raises(InputError, match="not begun by 'weathervane predict'"):
        check_out(tmp_path / "t.csv")
    part_of(tmp_path / "t.csv").write_text("")
    check_out(tmp_path / "t.csv")
