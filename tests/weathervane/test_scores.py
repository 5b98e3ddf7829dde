"""Tables of predictions as a list of photographs."""

from pathlib import Path

import pytest

from weathervane.errors import InputError
from weathervane.scores import photographs


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
