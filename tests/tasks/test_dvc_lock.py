"""Held against DVC itself: the hashes, and what is stale."""

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.dvc_lock import md5, prepared_md5, raw_md5, stale_because, tracked_dataset
from tasks.dvc_repo import add, bring_up_to_date
from tests.conftest import copy_project
from weathervane import params
from weathervane.errors import InputError
from weathervane.ingest import Ingest, ingest
from weathervane.params import load
from weathervane.prepare import Prepare, prepare


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose data/raw and data/prepared DVC has on record. Read only."""
    root = copy_project(tmp_path_factory.mktemp("recorded"))
    content = params.read(root / "params/ingest.yaml")
    content["sources"] = [{"kind": "synthetic", "per_class": 10, "seed": 0}]
    ingest(Ingest.model_validate(content), root)
    with contextlib.chdir(root / "data"):
        add(root, "data/raw", {"dataset": "weather-synthetic"})
        bring_up_to_date(root, "prepare", lambda: prepare(load(Prepare, root / "params/prepare.yaml"), root))
    return root


@pytest.fixture
def mine(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same project, to be changed; the working folder."""
    monkeypatch.chdir(shutil.copytree(recorded, tmp_path / "mine", symlinks=True))
    return tmp_path / "mine"


def dvc_finds_stale(root: Path) -> bool:
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo(str(root)) as repo:
        return bool(repo.status(["prepare"]))


def first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


FOLDERS = {
    "flat": ["b.jpg", "a.jpg", "B.jpg", "10.jpg", "9.jpg"],
    "nested": ["shine/1.jpg", "rain/deep/er/1.jpg", "rain/1.jpg", "top.csv"],
    "names that sort before the slash": ["a/x", "a-b/x", "a b/x", "a.b/x", "a!"],
    "unicode and spaces": ["Schnee & Eis/Grüße 1.jpg", "雨/東京 (2).jpg", "😀.jpg", "é.jpg", "e\u0301.jpg"],
    "what systems leave behind": [".DS_Store", "rain/Thumbs.db", "rain/.hidden", "__MACOSX/._x"],
    "many": [f"{number % 7}/{number:04}.jpg" for number in range(500)],
}


@pytest.mark.parametrize("names", FOLDERS.values(), ids=FOLDERS)
def test_the_hash_of_a_folder_is_what_dvc_add_records(names: list[str], tmp_path: Path) -> None:
    """Whether anything changed can be told without importing DVC, because both compute one hash."""
    from dvc.repo import Repo

    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(f"bytes of {name}".encode() if name != names[-1] else b"")
    (tmp_path / "data/an empty folder").mkdir()
    (tmp_path / "single file").write_bytes(b"\r\n binary \x00 or text \n")
    Repo.init(str(tmp_path), no_scm=True)
    with Repo(str(tmp_path)) as repo:
        recorded = [
            stage.outs[0].hash_info.value for stage in repo.add([str(tmp_path / "data"), str(tmp_path / "single file")])
        ]
    assert [md5(tmp_path / "data"), md5(tmp_path / "single file")] == recorded
    assert md5(tmp_path / "absent") is None


def test_what_is_on_record(recorded: Path, tmp_path: Path) -> None:
    """data/raw.dvc says which version of which dataset is tracked; a project without one has none."""
    assert raw_md5(recorded) == md5(recorded / "data/raw")
    assert tracked_dataset(recorded) == "weather-synthetic"
    assert raw_md5(tmp_path) is tracked_dataset(tmp_path) is None
    with pytest.raises(InputError, match="'prepare' has not run"):
        prepared_md5(tmp_path)


def test_the_prepared_version_follows_the_pixels(mine: Path) -> None:
    """Another pixel size is another version of the prepared data, the first one again is the first version."""
    seen = []
    for old, new in (("96", "96"), ("96", "32"), ("32", "96")):
        edit(mine / "params/prepare.yaml", old, new)
        bring_up_to_date(mine, "prepare", lambda: prepare(load(Prepare, mine / "params/prepare.yaml"), mine))
        seen.append(prepared_md5(mine))
    assert seen[0] == seen[2] != seen[1]


def test_a_stage_whose_inputs_and_outputs_are_on_record_is_current(recorded: Path) -> None:
    """A second retraining finds the data step done, and DVC agrees."""
    assert stale_because(recorded, "prepare") is None
    assert not dvc_finds_stale(recorded)


def test_a_comment_in_params_does_not_make_it_stale(mine: Path) -> None:
    """Explaining a parameter costs nobody a retraining."""
    edit(mine / "params/prepare.yaml", "shard:", "# of images\nshard:")
    assert stale_because(mine, "prepare") is None
    assert not dvc_finds_stale(mine)


def test_a_stage_that_never_ran_is_stale(mine: Path) -> None:
    """A fresh clone without dvc.lock prepares its data."""
    (mine / "dvc.lock").unlink()
    assert stale_because(mine, "prepare") == "prepare has never run"
    assert dvc_finds_stale(mine)


@pytest.mark.parametrize(
    "content",
    [
        *("outs:\n", "outs: []\n", "outs:\n- path: raw\n", "meta: {dataset: weather}\n", "outs: text\n"),
        *("outs: [{path: raw, md5: null}]\n", "meta: text\nouts: [{path: raw, md5: 12ab.dir}]\n"),
    ],
)
def test_a_damaged_record_of_the_data_is_one_clear_line(content: str, tmp_path: Path) -> None:
    """As an edit by hand or half of a merge leaves it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw.dvc").write_text(content)
    for read in (raw_md5, tracked_dataset):
        with pytest.raises(InputError, match=r"data/raw\.dvc: not a valid DVC file: repair it"):
            read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        *("schema: '2.0'\n", "schema: '2.0'\nstages:\n", "stages: text\n", "stages:\n  prepare:\n"),
        *("stages:\n  prepare: text\n", "stages:\n  prepare:\n    cmd: x\n", "stages: {prepare: {cmd: x, deps: }}\n"),
    ],
)
def test_a_record_without_stages_is_of_stages_that_never_ran(content: str, mine: Path) -> None:
    """What a merge has left of dvc.lock is made again."""
    (mine / "dvc.lock").write_text(content)
    assert stale_because(mine, "prepare") == "prepare has never run"


def add_output(root: Path) -> None:
    edit(root / "dvc.yaml", "    outs:\n", "    outs:\n    - data/thumbnails\n")


CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a code dependency edited": (
        r"weathervane/images\.py changed",
        lambda root: edit(root / "weathervane/images.py", "import", "import this\nimport"),
    ),
    "a code dependency removed": (
        r"weathervane/parallel\.py changed",
        lambda root: (root / "weathervane/parallel.py").unlink(),
    ),
    "a parameter changed": (
        r"params/prepare\.yaml changed",
        lambda root: edit(root / "params/prepare.yaml", "4096", "1000"),
    ),
    "a parameter added": (
        r"params/prepare\.yaml changed",
        lambda root: edit(root / "params/prepare.yaml", "shard:", "depth: 3\nshard:"),
    ),
    "an image edited": ("data/raw changed", lambda root: first(root, "data/raw/*/*.jpg").write_bytes(b"other")),
    "an image removed": ("data/raw changed", lambda root: first(root, "data/raw/*/*.jpg").unlink()),
    "an image added": ("data/raw changed", lambda root: (root / "data/raw/new.jpg").write_bytes(b"new")),
    "an image renamed": (
        "data/raw changed",
        lambda root: first(root, "data/raw/*/*.jpg").rename(root / "data/raw/new.jpg"),
    ),
    "data/raw missing": ("data/raw changed", lambda root: shutil.rmtree(root / "data/raw")),
    "the pixels missing": ("data/prepared.* missing", lambda root: first(root, "data/prepared/**/*.npy").unlink()),
    "the pixels edited": (
        "data/prepared.* changed",
        lambda root: first(root, "data/prepared/**/*.npy").write_bytes(b"half"),
    ),
    "the manifest edited": (
        "data/prepared.* changed",
        lambda root: (root / "data/prepared/manifest.parquet").write_bytes(b"half"),
    ),
    "data/prepared missing": ("data/prepared.* missing", lambda root: shutil.rmtree(root / "data/prepared")),
    "another dependency declared": (
        "dependencies of prepare changed",
        lambda root: edit(root / "dvc.yaml", "    - data/raw\n", "    - data/raw\n    - weathervane/layers.py\n"),
    ),
    "another parameter file declared": (
        "parameters of prepare changed",
        lambda root: edit(root / "dvc.yaml", "    params:\n", "    params:\n    - params/ingest.yaml:\n"),
    ),
    "another output declared": ("outputs of prepare changed", add_output),
    "another command": (
        "command of prepare changed",
        lambda root: edit(root / "dvc.yaml", "python -m weathervane.prepare", "python -W error -m weathervane.prepare"),
    ),
}


@pytest.mark.parametrize(("why", "change"), CHANGES.values(), ids=CHANGES)
def test_whatever_dvc_calls_stale_is_stale_and_told(why: str, change: Callable[[Path], object], mine: Path) -> None:
    """No change of code, parameters, images or outputs goes unnoticed; the person reads which it was."""
    change(mine)
    told = stale_because(mine, "prepare")
    assert dvc_finds_stale(mine)
    assert told is not None
    assert re.search(why, told), told
