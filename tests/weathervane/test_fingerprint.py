"""What a training depends on: what changes the fingerprint, and what does not."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from weathervane import fingerprint, params, variant
from weathervane.fingerprint import digest, ingredients, sources
from weathervane.models import FAMILIES

ROOT = Path(__file__).parents[2]
VARIANTS = variant.names(ROOT)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and its parameters."""
    shutil.copytree(ROOT / "weathervane", tmp_path / "weathervane", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


def marks(root: Path) -> dict[str, str]:
    """The fingerprint of every variant, computed by the code that lies in `root`."""
    code = (
        "import json, pathlib; from weathervane import fingerprint, variant; root = pathlib.Path('.')\n"
        "assert fingerprint.PACKAGE.parent == root.resolve()\n"
        "made = {n: fingerprint.ingredients(variant.load(root, n), 'd', 0) for n in variant.names(root)}\n"
        "print(json.dumps({name: fingerprint.digest(needed) for name, needed in made.items()}))"
    )
    told = subprocess.run([sys.executable, "-B", "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return dict(json.loads(told.stdout))


def changed(root: Path, before: dict[str, str]) -> set[str]:
    after = marks(root)
    assert after.keys() == before.keys()
    return {name for name in before if before[name] != after[name]}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_comments_and_names_do_not_retrain(tree: Path) -> None:
    """A comment or another order of keys in a YAML, or the file's own name, changes no fingerprint; a value does."""
    name = VARIANTS[0]
    path = tree / f"params/models/{name}.yaml"
    before = digest(ingredients(variant.load(tree, name), "data", 0))
    content = params.read(path)
    append(path, "# a remark\n")
    assert digest(ingredients(variant.load(tree, name), "data", 0)) == before
    path.with_name("other.yaml").write_text(json.dumps(dict(reversed(content.items()))), encoding="utf-8")
    assert digest(ingredients(variant.load(tree, "other"), "data", 0)) == before
    more = variant.load(tree, name, {"train.epochs": content["train"]["epochs"] + 1})
    assert digest(ingredients(more, "data", 0)) != before


def test_data_seed_and_every_ingredient_count() -> None:
    """Other data, another seed, other code or another version of a library: each makes another fingerprint."""
    needed = ingredients(variant.load(ROOT, VARIANTS[0]), "data", 0)
    assert set(needed) == {"data", "params", "seed", "code", *fingerprint.NUMERIC}
    assert all(isinstance(value, str) and value != "absent" for value in needed.values())
    for name in needed:
        assert digest(needed | {name: "other"}) != digest(needed), name
    assert needed != ingredients(variant.load(ROOT, VARIANTS[0]), "data", 1)
    assert needed != ingredients(variant.load(ROOT, VARIANTS[0]), "other", 0)
    assert digest(dict(reversed(needed.items()))) == digest(needed)


def test_the_code_is_told_file_by_file() -> None:
    """Each source is named, so that an edited one can be told, and all of them fit a tag of MLflow's (8,000)."""
    needed = ingredients(variant.load(ROOT, "cnn"), "data", 0)
    files = json.loads(needed["code"])
    assert {"fit.py", "models/cnn.py", "train.py"} < set(files) and "models/__init__.py" not in files
    assert len(set(files.values())) == len(files) and len(needed["code"]) < 4000


@pytest.mark.slow
def test_code_that_a_variant_runs_retrains_it(tree: Path) -> None:
    """A change in the loop's modules retrains every variant, one in a family's module that family's; one in a module
    that training never imports, or a new line in the list of families, nobody's."""
    before = marks(tree)
    assert list(before) == VARIANTS
    family = {name: variant.load(ROOT, name).family for name in VARIANTS}
    changes: list[tuple[str, Callable[[str], bool]]] = [
        ("augment.py", lambda name: True),
        ("synthetic.py", lambda name: False),
        ("pictures/style.py", lambda name: False),
        ("models/__init__.py", lambda name: False),
        (FAMILIES[family[VARIANTS[0]]].split(".", 1)[1].replace(".", "/") + ".py", lambda name: family[name] == first),
    ]
    first = family[VARIANTS[0]]
    for module, hit in changes:
        path = tree / "weathervane" / module
        text = path.read_text(encoding="utf-8")
        append(path, "\nREMARK = 1\n")
        assert changed(tree, before) == {name for name in VARIANTS if hit(name)}, module
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_sources_are_what_it_imports(family: str) -> None:
    """Building a network of any family imports no module of ours that its fingerprint leaves out."""
    known = [*sources("weathervane.train", FAMILIES[family]), fingerprint.FAMILY_LIST]
    assert ROOT.joinpath(*FAMILIES[family].split(".")).with_suffix(".py") in known
    assert {ROOT / "weathervane" / f"{name}.py" for name in ("fit", "augment", "device", "model", "store")} <= set(
        known
    )
    assert ROOT / "weathervane/synthetic.py" not in known


def test_imports_are_spelled_so_that_they_are_found() -> None:
    """`sources` reads import statements: none is relative, and none but the registry's is made from a string."""
    for path in (ROOT / "weathervane").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path
            if isinstance(node, ast.Name) and node.id in ("import_module", "__import__"):
                assert path == fingerprint.FAMILY_LIST, path


def test_a_stage_depends_on_the_modules_that_it_imports() -> None:
    """dvc.yaml names, for each stage, exactly the modules that its command imports and the package's data files that
    these name: `dvc repro` and `weathervane retrain` agree on what is stale."""
    stages = params.read(ROOT / "dvc.yaml")["stages"]
    assert len(stages) >= 1
    beside = [path for path in (ROOT / "weathervane").iterdir() if path.is_file() and path.suffix != ".py"]
    for name, stage in stages.items():
        python, option, module, *_ = stage["cmd"].split()
        assert (python, option) == ("python", "-m")
        needed = sources(module)
        code = "\n".join(path.read_text(encoding="utf-8") for path in needed)
        needed += [path for path in beside if f'"{path.name}"' in code]
        declared = [dependency for dependency in stage["deps"] if not dependency.startswith("data/")]
        assert set(declared) == {path.relative_to(ROOT).as_posix() for path in needed}, name
        assert stage["deps"] == sorted(set(stage["deps"])), name
