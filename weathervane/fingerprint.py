"""What a training depends on, as one hash: if it is equal, training again would give the same model.

Nothing heavy is imported for it: sources are found by reading import statements, versions in the packages'
metadata.
"""

import ast
import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from weathervane.models import FAMILIES
from weathervane.variant import Variant

PACKAGE = Path(__file__).parent
FAMILY_LIST = PACKAGE / "models" / "__init__.py"
NUMERIC = ("torch", "torchvision", "numpy", "scipy", "pillow")


def digest(ingredients: dict[str, str]) -> str:
    """The fingerprint of `ingredients`: hex sha256, 32 digits."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:32]


def ingredients(variant: Variant, data_md5: str, seed: int) -> dict[str, str]:
    """What a training depends on, by name, so that a change can be told in words.

    Prepared data, parsed parameters, seed, sources and library versions; not the variant's name, comments in
    its YAML, the list of families, the device, or modules that a training does not import.
    """
    files = code("weathervane.train", FAMILIES[variant.family])
    files.pop(_name(FAMILY_LIST))
    found = {
        "data": data_md5,
        "params": json.dumps(variant.model_dump(mode="json"), sort_keys=True),
        "seed": str(seed),
        "code": json.dumps(files),
    }
    return found | {name: _version(name) for name in NUMERIC}


def code(*modules: str) -> dict[str, str]:
    """Name below the package → sha256 (12 hex digits) of each of the `sources` of these modules."""
    return {_name(path): hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in sources(*modules)}


def sources(*modules: str) -> list[Path]:
    """The files of these weathervane modules and of all weathervane modules that they import, sorted."""
    seen: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in seen or path is None:
            continue
        seen[name] = path
        waiting += _imports(path.read_text(encoding="utf-8"))
    return sorted(seen.values())


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def _imports(code: str) -> list[str]:
    found = list[str]()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _file(name: str) -> Path | None:
    if name.split(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*name.split(".")[1:])
    if path.is_dir():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
