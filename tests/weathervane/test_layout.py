"""The class of a file, from its folder or its name; what systems leave behind is no image."""

import io
import os
import unicodedata
from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_metric_name
from PIL import Image

from weathervane.examine import Record
from weathervane.layout import as_beside, class_name, ignored, labels, shown
from weathervane.ledger import Ledger
from weathervane.sorting import Sorting
from weathervane.sources import Found


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("rain12.jpg", "rain"),
        ("rain_12.jpg", "rain"),
        ("rain-12.JPEG", "rain"),
        ("RAIN12.png", "rain"),
        ("Light Rain (3).jpg", "light rain"),
        ("비12.jpg", "비"),
        (unicodedata.normalize("NFD", "été12.jpg"), "été"),
        ("partly-cloudy-12.jpg", "partly-cloudy"),
        ("rain.jpg", None),
        ("12.jpg", None),
        ("rain12", None),
        ("rain\n12.jpg", None),
        ("rain\udcff12.jpg", None),
        ("IMG_0012.jpg", None),
        ("PXL_20240101.jpg", None),
        ("Screenshot 12.png", None),
    ],
)
def test_a_flat_file_is_named_after_its_class(name: str, label: str | None) -> None:
    """`<class><number>.<ending>` names the class; a camera's `IMG_12.jpg` does not."""
    assert labels([name]) == {name: label}


def test_a_flat_folder_inside_an_archive() -> None:
    """The published dataset (`dataset2/rain1.jpg`) is understood like a flat folder."""
    assert labels(["dataset2/rain1.jpg", "dataset2/shine1.jpg"], packed=True) == {
        "dataset2/rain1.jpg": "rain",
        "dataset2/shine1.jpg": "shine",
    }


def test_the_folder_that_holds_a_file_is_its_class() -> None:
    """Class folders win over file names, at any depth; loose files among them have no class."""
    names = ["train/Rain/sunrise1.jpg", "val/rain/x.jpg", "train/shine /y.jpg", "readme1.txt"]
    assert list(labels(names).values()) == ["rain", "rain", "shine", None]


def test_one_class_folder_with_any_names() -> None:
    """An inbox with a single class folder takes the folder's name, also for names that a camera gave."""
    assert set(labels(["rain/a.jpg", "rain/12.jpg"]).values()) == {"rain"}
    assert set(labels(["rain/IMG_1.jpg", "rain/DSC_2.jpg"]).values()) == {"rain"}


@pytest.mark.parametrize("packed", [False, True])
def test_one_class_folder_with_names_of_another_class(packed: bool) -> None:
    """Photographs that a person has sorted anew are of the folder's class, whatever they were called before."""
    assert set(labels(["rain/cloudy12.jpg", "rain/cloudy40.jpg"], packed).values()) == {"rain"}
    assert set(labels(["rain/Hamburg01.jpg", "rain/Hamburg02.jpg"], packed).values()) == {"rain"}


def test_a_folder_that_holds_several_classes_by_name_is_an_archives_only() -> None:
    """An archive's folder may be its wrapping; one that a person made, and names as the source, is a class."""
    names = ["rain/cloudy12.jpg", "rain/sunrise3.jpg"]
    assert list(labels(names, packed=True).values()) == ["cloudy", "sunrise"]
    assert list(labels(names).values()) == ["rain", "rain"]


def test_a_folder_round_class_folders_is_none_itself() -> None:
    """A loose photograph in an archive's wrapping is as loose as one beside class folders that were not packed."""
    names = ["set/rain/a.jpg", "set/shine/b.jpg", "set/IMG_1.jpg"]
    assert list(labels(names, packed=True).values()) == ["rain", "shine", None]
    for others in (["rain/b.jpg"], ["rain/night/b.jpg"]):
        assert labels(["rain/a.jpg", *others], packed=True)["rain/a.jpg"] == "rain"


def test_texts_are_of_the_class_beside_them() -> None:
    """A photograph may be called a text; where none or several classes are beside one, it is no photograph's name."""
    classes = {"set/rain1.jpg": "rain", "set/shine1.jpg": "shine", "rain/a.jpg": "rain", "x/IMG_1.jpg": None}
    texts = ["set/notes.txt", "rain/wrong.txt", "x/a.md", "LICENSE.txt"]
    assert list(as_beside(texts, classes).values()) == [None, "rain", None, None]


def test_no_files() -> None:
    """An empty source is no error here; ingest says what is missing."""
    assert labels([]) == {}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Rain ", "rain"),
        ("heavy rain", "heavy rain"),
        ("x" * 63, "x" * 63),
        ("x" * 64, None),
        ("", None),
        (" ", None),
        (".", None),
        ("..", None),
        ("x.jpg", None),
        ("a/b", None),
        ("a\\b", None),
        ("_hidden", None),
        ("rain\u200b", None),
        ("rain & wind", None),
        ("snow+rain", None),
        ("a\nb", None),
        (unicodedata.normalize("NFD", "눈"), "눈"),
    ],
)
def test_class_names_are_safe_folder_names(text: str, stored: str | None) -> None:
    """What is stored is NFC and lower case, can neither leave its folder nor hide in it, and may be part of the name of
    a metric in MLflow."""
    assert class_name(text) == stored
    if stored:
        _validate_metric_name(f"test/f1/{stored}")


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        (".DS_Store", True),
        ("rain/.DS_Store", True),
        ("rain/Thumbs.db", True),
        ("rain/THUMBS.DB", True),
        ("__MACOSX/rain/._1.jpg", True),
        (".git/objects/rain1.jpg", True),
        ("rain/@eaDir/1.jpg", True),
        ("desktop.ini", True),
        ("rain/1.jpg", False),
        ("rain/__macosx.jpg", False),
        ("ds_store/1.jpg", False),
    ],
)
def test_what_systems_leave_behind_is_ignored(name: str, yes: bool) -> None:
    """Finder's, Explorer's and a NAS's files, and whatever is dotted, are no images and no classes."""
    assert ignored(name) is yes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"rain/12 x.jpg", "rain/12 x.jpg"),
        ("비/눈☔.jpg".encode(), "비/눈☔.jpg"),
        (b"rain/\xff.jpg", "rain/\\xff.jpg"),
        (b"a\nb\rc\td.jpg", "a\\nb\\rc\\td.jpg"),
        (b"\x1b[31mred.jpg", "\\x1b[31mred.jpg"),
    ],
)
def test_names_can_be_shown(name: bytes, text: str) -> None:
    """Whatever a file is called, its name can be printed and stored, and does nothing to a terminal."""
    assert shown(os.fsdecode(name)) == text


@pytest.mark.parametrize("label", ["../evil", "Two!", "Rain", "", None])
def test_a_source_cannot_make_up_a_class(label: str | None) -> None:
    """What no folder and no metric can be called by is quarantined, whatever kind of source said it."""
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(picture, "PNG")
    sorting = Sorting(Ledger(Path("nowhere")), None, Record())
    sorting.sort("new", *sorting.examine(Found("x.png", label, picture.getvalue())))
    (bad,) = sorting.ended().quarantined
    assert bad.reason == "name not understood" and "is no name of a class" in bad.detail
