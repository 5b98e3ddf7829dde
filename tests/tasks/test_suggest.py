"""Photographs from archives and tables: the bytes that belong to a name, whatever the order."""

import csv
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.suggest import Candidates, _fill, _made
from tests.conftest import ROOT
from weathervane import synthetic, variant
from weathervane.errors import InputError
from weathervane.listing import Listing, listing
from weathervane.model import Model, Spec, build
from weathervane.score import Looked, score
from weathervane.score_table import photographs
from weathervane.suggest import Pick

CLASSES = ["cloudy", "rain", "shine", "sunrise"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Twelve photographs, one of them under a name that another has, too."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file, pytest.warns(UserWarning, match="Duplicate name"):
        for number in range(11):
            file.writestr(f"{number}.jpg", synthetic.render("rain", number))
        file.writestr("3.jpg", synthetic.render("shine", 3))
    return path


@pytest.fixture(scope="module")
def model() -> Model:
    chosen = variant.load(ROOT, "dnn", {"size": 32, "network.hidden": [8, 8]})
    spec = Spec("dnn", "dnn", chosen.network, 32, 32, CLASSES, False)
    return Model(build(spec), spec, torch.device("cpu"))


def read(found: Listing) -> dict[str, list[str]]:
    """Name → sha256 of what its readers give, in their order."""
    given: dict[str, list[str]] = {}
    for reader in found.readers():
        one = reader()
        given.setdefault(one.name, []).append(hashlib.sha256(one.data).hexdigest() if not one.reason else one.detail)
    return given


def test_members_keep_their_bytes_in_any_order(archive: Path) -> None:
    """Asked for backwards, each name of an archive gives its own bytes; one that is not there is told, not guessed."""
    whole = read(listing(str(archive)))
    assert len(whole) == 11 and len(whole["3.jpg"]) == 2
    assert read(Listing(archive, ["gone.jpg", *reversed(whole)])) == whole | {
        "gone.jpg": ["not in the archive any more"]
    }


def test_what_is_chosen_is_what_is_copied(archive: Path, model: Model, tmp_path: Path) -> None:
    """Of an archive, chosen out of order, with both that share a name: file names, table and bytes belong together;
    what has changed since it was scored is left out."""
    found = listing(str(archive))
    looked: list[Looked] = []
    parts = []
    for batch in score(model, found, "test"):
        looked += batch.looked
        parts.append((batch.probabilities, batch.features))
    probabilities, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    there = Candidates(looked, probabilities, features, features)
    both = [row for row, one in enumerate(looked) if one.path == "3.jpg"]
    picks = [Pick(row, "unsure") for row in (9, *both, 0, 5)]
    looked[5] = Looked(looked[5].path, "", "0" * 64, 0.0)
    with _made(tmp_path / "out") as folder:
        assert _fill(folder, model, found, there, picks) == 4
    rows = list(csv.DictReader((tmp_path / "out/suggested.csv").open()))
    assert [row["path"] for row in rows] == [looked[pick.row].path for pick in picks[:4]]
    for row, pick in zip(rows, picks, strict=False):
        digest = hashlib.sha256((tmp_path / "out" / row["file"]).read_bytes()).hexdigest()
        assert digest == looked[pick.row].sha256 and row["file"][4:16] == digest[:12]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """And of work that fails nothing is left, under no name."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used/mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"), _made(tmp_path / "used"):
        pass
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(InputError, match="is there already"), _made(tmp_path / "link"):
        pass
    with pytest.raises(ZeroDivisionError), _made(tmp_path / "new") as folder:
        (folder / "a").write_text("a")
        1 / 0  # noqa: B018
    with pytest.raises(InputError, match="cannot be made: No such file"), _made(tmp_path / "no/such/folder"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link", "used"]


def test_a_table_finds_names_that_it_could_not_write(tmp_path: Path) -> None:
    """A name with a narrow space, or all of digits, leads back to its file; a table of elsewhere is refused."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    names = ["9.41\u202fAM.jpg", "123", "plain.jpg"]
    for name in names:
        (folder / name).write_bytes(b"x")
    lines = [f"{folder},9.41\\u202fAM.jpg", f"{folder},123", f"{folder},gone.jpg"]
    (tmp_path / "t.csv").write_text("source,path\n" + "\n".join(lines) + "\n")
    assert photographs(str(tmp_path / "t.csv")).names == names[:2]
    (tmp_path / "t.csv").write_text(f"source,path\n{tmp_path}/elsewhere,a.jpg\n")
    with pytest.raises(InputError, match="which is not there any more"):
        photographs(str(tmp_path / "t.csv"))
