"""Each kind of change: told in words, and trained by the variants that it touches and no others."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import data
from tasks.data_versions import Difference
from tasks.dvc_lock import raw_md5
from tasks.plan import make_plan, read_variants
from tests.conftest import copy_project
from tests.flows.conftest import environment
from tests.tasks.test_data import fill, use
from tests.tasks.test_plan import record
from weathervane import fingerprint
from weathervane.ledger import Row

NAMES = ["cnn", "dnn"]
UNTOUCHED = dict.fromkeys(NAMES, "unchanged")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Path:
    """A project with a dataset of two classes of 12, and runs of two variants on record. Read only."""
    root = copy_project(tmp_path_factory.mktemp("trained"))
    shutil.copy(fresh_database, root)
    fill(root / "inbox", "rain", range(12))
    fill(root / "inbox", "sun", range(100, 112))
    use(root, Path("inbox"), "weather")
    with contextlib.chdir(root):
        data.ingest_and_record(root)
        data.prepare_and_record(root)
    record(root, make_plan(root, read_variants(root, NAMES, []), seed=0))
    return root


@pytest.fixture
def mine(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same project, to be changed; its code is what fingerprints are made of."""
    root = shutil.copytree(trained, tmp_path / "mine")
    monkeypatch.chdir(root)
    monkeypatch.setattr(fingerprint, "PACKAGE", root / "weathervane")
    monkeypatch.setattr(fingerprint, "FAMILY_LIST", root / "weathervane/models/__init__.py")
    return root


def why(root: Path, *names: str) -> dict[str, str]:
    """Variant → why it would be trained; those that would not are unchanged."""
    data.ingest_and_record(root)
    data.prepare_and_record(root)
    plan = make_plan(root, read_variants(root, [*NAMES, *names], []), seed=0)
    told = {candidate.name: candidate.why for candidate in plan.candidates}
    assert {one.name for one in plan.to_train} == {name for name in told if told[name] != "unchanged"}
    assert plan.nothing_to_do == (told == UNTOUCHED)
    return told


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.slow
def test_new_images_are_counted_by_class(mine: Path) -> None:
    """New images train every variant, which says how many came to which class; so does a larger `image_size`, with
    both values; where the old version's list is gone, the md5s of both are told."""
    before = raw_md5(mine)
    fill(mine / "inbox", "sun", range(112, 115))
    assert why(mine) == dict.fromkeys(NAMES, "3 images added to sun")
    edit(mine / "params/prepare.yaml", "image_size: 96", "image_size: 128")
    assert why(mine) == dict.fromkeys(NAMES, "3 images added to sun; prepare.yaml: image_size 96 → 128")
    assert before
    (mine / ".dvc/cache/files/md5" / before[:2] / before[2:]).unlink()
    told = f"data changed ({before} → {raw_md5(mine)}); prepare.yaml: image_size 96 → 128"
    assert why(mine) == dict.fromkeys(NAMES, told)


@pytest.mark.slow
def test_prepared_data_that_changed_for_another_reason(mine: Path) -> None:
    """Other pixels of the same images train every variant: by a parameter of prepare, or by its code, which is named;
    an edit that leaves the pixels as they were trains nobody, nor does a remark in the parameters."""
    edit(mine / "weathervane/ledger.py", '"""', '"""\n')
    edit(mine / "params/prepare.yaml", "\nimage_size", "\n# a remark\nimage_size")
    assert why(mine) == UNTOUCHED
    edit(mine / "params/prepare.yaml", "image_size: 96", "image_size: 128")
    assert why(mine) == dict.fromkeys(NAMES, "prepare.yaml: image_size 96 → 128")
    edit(mine / "params/prepare.yaml", "image_size: 128", "image_size: 96")
    assert why(mine) == UNTOUCHED
    edit(mine / "weathervane/prepare.py", "return images.decode(", "return 255 - images.decode(")
    command = [sys.executable, "-c", "from tasks import data; import pathlib; data.prepare_and_record(pathlib.Path())"]
    subprocess.run(command, cwd=mine, env=environment(mine), check=True)
    assert why(mine) == dict.fromkeys(NAMES, "ledger.py, prepare.py edited")


@pytest.mark.slow
def test_an_edited_file_trains_what_uses_it(mine: Path) -> None:
    """A variant's own file and its family's module train that variant, the loop's module every one; a remark in a
    variant's file trains nobody, and a new file its own variant. Each is named, with both values where it has any."""
    cnn = mine / "params/models/cnn.yaml"
    edit(cnn, "\nfamily", "\n# a remark\nfamily")
    edit(shutil.copy(cnn, cnn.with_name("other.yaml")), "width: 32", "width: 8")
    assert why(mine, "other") == UNTOUCHED | {"other": "never trained on this dataset"}
    edit(cnn, "width: 32", "width: 48")
    assert why(mine) == UNTOUCHED | {"cnn": "cnn.yaml: network.width 32 → 48"}
    edit(mine / "weathervane/models/cnn.py", '"""', '"""\n')
    both = "cnn.yaml: network.width 32 → 48; models/cnn.py edited"
    assert why(mine) == UNTOUCHED | {"cnn": both}
    edit(mine / "weathervane/fit.py", "import math", "import math\nfrom weathervane import traits")
    told = "fit.py edited; traits.py added"
    assert why(mine) == {"cnn": f"{both.replace('models', 'fit.py, models')}; traits.py added", "dnn": told}


@pytest.mark.slow
def test_the_reason_stands_on_the_run(trained: Path) -> None:
    """A variant's run in MLflow says why it was trained."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{trained}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("weather").experiment_id], "tags.kind = 'variant'")
    assert {run.data.tags["variant"]: run.data.tags["why"] for run in found} == dict.fromkeys(
        NAMES, "never trained on this dataset"
    )


def row(label: str) -> Row:
    return Row("0" * 64, label, "inbox", "a.jpg", 1, "0" * 12, "train", 0, 64, 64, "", f"{label}/a.jpg")


def test_a_difference_in_few_words() -> None:
    """Counts by class, the commonest first; of many classes the rest is counted; one image is no images."""
    rain, sun = row("rain"), row("sun")
    assert str(Difference([rain] * 12, [sun], [])) == "12 images added to rain, 1 removed from sun"
    assert str(Difference([], [], [(rain, sun)])) == "1 image relabelled rain → sun"
    assert str(Difference([], [], [])) == "the same images"
    many = [row(f"kind {n}") for n in range(7) for _ in range(8 - n)]
    told = "8 images added to kind 0, 7 added to kind 1, 6 added to kind 2, 5 added to kind 3, 9 added to 3 more"
    assert str(Difference(many, [], [])) == told
