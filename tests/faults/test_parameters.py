"""Values that no parameter may have, and names that would leave their folder or reach a shell: faults 14 to 16."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.edit_ingest import edited
from flows.notify import NOTIFY, Notify
from flows.runner import COMPUTE, Compute
from tasks.data_versions import resolve
from tasks.gate import REGISTER
from tasks.monitor import MONITOR
from tasks.plan import read_variants
from tasks.retention import Retention
from tests.conftest import ROOT, copy_project
from weathervane import params, variant
from weathervane.drift import Monitor
from weathervane.errors import InputError
from weathervane.gate import Register
from weathervane.ingest import Ingest
from weathervane.prepare import Prepare

SCHEMAS: dict[str, Any] = {
    "params/ingest.yaml": Ingest,
    "params/prepare.yaml": Prepare,
    str(REGISTER): Register,
    "params/retention.yaml": Retention,
    str(NOTIFY): Notify,
    str(COMPUTE): Compute,
    str(MONITOR): Monitor,
}
TRIALS = 1000
BAD_VALUES: list[Any] = [float("nan"), float("-inf"), -1, {"a": {"b": 1}}, [[1]], "\x00"]
NAMES = [
    "../../canary", "/etc/passwd", "a;touch canary", "$(touch canary)", "`touch canary`", "| touch canary",
    "a\nb", "-rf", "a b", "..", "%2e%2e", "a" * 300, "ä", "a\x00b", "",
]  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a single value stands."""
    if isinstance(content, dict):
        return [place for key, below in content.items() for place in places(below, (*path, key))]
    return [path]


def changed(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    return {**content, head: changed(content[head], tuple(rest), value) if rest else value}


@pytest.mark.fault(14, trials=TRIALS)
def test_a_thousand_wrong_files_are_refused() -> None:
    """NaN, infinities, negative numbers, wrong types and unknown keys, in any place of any params file: one line that
    names the file, and never anything but an InputError."""
    draw = random.Random(0)
    files = {name: (params.read(ROOT / name), schema) for name, schema in SCHEMAS.items()}
    for name in variant.names(ROOT):
        path = f"params/models/{name}.yaml"
        files[path] = (params.read(ROOT / path), variant.Variant)
    done = 0
    while done < TRIALS:
        name = draw.choice(list(files))
        content, schema = files[name]
        where = draw.choice(places(content))
        if where[0] == "limits":  # of any metric, to any value
            continue
        done += 1
        wrong = draw.choice([*BAD_VALUES, "extra key"])
        if wrong == "extra key":
            broken = changed(content, (*where[:-1], f"{where[-1]}_"), 1)
        else:
            broken = changed(content, where, wrong)
        try:
            accepted = params.check(schema, broken, name)
        except InputError as refused:
            assert str(refused).startswith(name), (where, wrong, refused)
        else:
            pytest.fail(f"{name}: {where} = {wrong!r} was accepted: {accepted}")


@pytest.mark.fault(14)
@pytest.mark.parametrize(
    "change", ["train.epochs=nan", "train.epochs=-1", "train.lr=-.inf", "train.lr=no", "size=1e400"]
)
def test_a_wrong_value_of_the_command_line_is_refused(change: str) -> None:
    """`--set` is checked as the file is, before anything runs."""
    with pytest.raises(InputError, match=r"params/models/cnn\.yaml"):
        read_variants(ROOT, ["cnn"], [change])


USES: dict[str, Callable[[Path, str], object]] = {
    "variant": lambda root, name: read_variants(root, [name], []),
    "dataset": lambda root, name: edited(root / "params/ingest.yaml", root, None, name),
    "source": lambda root, name: edited(root / "params/ingest.yaml", root, f"nowhere/{name}", None),
    "data version": resolve,
}


@pytest.mark.fault(16)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_stays_a_name(use: str, name: str, victim: Path) -> None:
    """Whatever stands where a variant, a dataset, a source or a version is named: refused in words, nothing executed,
    no file outside read or written."""
    if use == "source" and name in ("", "..", "%2e%2e"):
        name = f"{name}/missing"
    with pytest.raises(InputError):
        USES[use](victim, name)
    assert (victim.parent / "canary").read_text() == "alive" and not (victim / "canary").exists()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project beside a file that nobody may touch."""
    folder = tmp_path_factory.mktemp("victim")
    (folder / "canary").write_text("alive")
    (folder / "project").mkdir()
    root = copy_project(folder / "project")
    subprocess.run(["git", "status"], cwd=root, check=True, capture_output=True)
    return root
