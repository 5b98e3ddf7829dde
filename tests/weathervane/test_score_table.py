"""Tables of predictions as a list of photographs."""

from pathlib import Path

import pytest

from weathervane.errors import InputError
from weathervane.score_table import Origin, ScoreTable, photographs


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
