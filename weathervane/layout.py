"""Which class a file belongs to, from its place or its name, and which files are no images at all."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

JUNK = {".ds_store", "thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"}
TEXTS = {".csv", ".htm", ".html", ".json", ".md", ".pdf", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
CAMERA = {"dsc", "dscf", "dscn", "image", "img", "mvimg", "photo", "picture", "pxl", "screenshot"}  # no weather
CLASS = re.compile(r"[^\W_][\w -]{0,62}")  # what the name of a metric may hold in MLflow, too
NUMBERED = re.compile(r"([^\W\d_](?:[^\W\d]|[ -])*?)[ _-]*\(?\d+\)?\.\w{1,5}")


def ignored(name: str) -> bool:
    """True for what systems leave behind: .DS_Store, Thumbs.db, __MACOSX/, anything dotted."""
    return any(part.lower() in JUNK or part.startswith(".") for part in PurePosixPath(name).parts)


def called_text(name: str) -> bool:
    """True for what lies beside photographs to tell of them, if it is none itself."""
    return PurePosixPath(name).suffix.lower() in TEXTS


def shown(name: str) -> str:
    """A file name for lists and terminals: bytes that are not UTF-8, line ends and control characters escaped."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def class_name(text: str) -> str | None:
    """A class as it is stored: NFC, lower case, letters, digits, `_`, `-` and spaces; None if it cannot be one."""
    name = unicodedata.normalize("NFC", text).strip().lower()
    return name if CLASS.fullmatch(name) else None


def labels(names: Sequence[str], packed: bool = False) -> dict[str, str | None]:
    """The class of each file; None where the name is not understood.

    The class is the name of the folder that holds the file (so `train/rain/x.jpg` is rain), and a loose file among
    folders has none. Where all files are loose it is what each name begins with (`rain12.jpg`, `rain_12.jpg`); what
    cameras call their files (`IMG_12.jpg`) is no class. Archives (`packed`) often have one folder round all of their
    files. With several others in it, it is no class. With none, what its files begin with are the classes, if each name
    has that form and they begin with different ones.
    """
    parents = {name: PurePosixPath(name).parent for name in names}
    folders, outer = set(parents.values()), {PurePosixPath()}
    numbered = {name: _beginning(PurePosixPath(name).name) for name in names}
    flat = packed and len(folders) == 1 and all(numbered.values()) and len(set(numbered.values())) > 1
    if flat or folders <= outer:
        return numbered
    tops = {folder.parts[:1] for folder in folders}
    if packed and len(tops) == 1:
        top = PurePosixPath(*tops.pop())
        if len(folders - {top}) > 1:
            outer.add(top)
    return {name: None if parent in outer else class_name(parent.name) for name, parent in parents.items()}


def as_beside(texts: Sequence[str], classes: dict[str, str | None]) -> dict[str, str | None]:
    """Files that are called texts may be photographs all the same: the class of those beside them, if it is one."""
    beside: dict[PurePosixPath, set[str | None]] = {}
    for name, label in classes.items():
        beside.setdefault(PurePosixPath(name).parent, set()).add(label)
    found = {name: beside.get(PurePosixPath(name).parent, set()) for name in texts}
    return {name: next(iter(labels)) if len(labels) == 1 else None for name, labels in found.items()}


def _beginning(name: str) -> str | None:
    match = NUMBERED.fullmatch(unicodedata.normalize("NFC", name))
    label = class_name(match[1]) if match else None
    return None if label in CAMERA else label
