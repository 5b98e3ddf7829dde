"""Parts that several tests share: a project in a temporary folder, a small dataset, the real photographs."""

import compileall
import contextlib
import gc
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock

from flows.server import LocalServer
from tests import rows
from tests.skies import rendered
from weathervane import variant
from weathervane.prepare import Prepare
from weathervane.store import Store

ROOT = Path(__file__).parents[1]
# Folders, and files of them, that take long.
LONG = ["flows", "faults", "tasks"]
FIRST = ["test_resume.py", "test_ranks.py", "test_models.py", "test_inside.py"]
os.environ["OMP_NUM_THREADS"] = "1"  # workers side by side, on networks that gain nothing from more
_factory: list[pytest.TempPathFactory] = []  # the session's


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", choices=rows.KINDS, help="note what each row of faults came to, see tests/rows.py")


def pytest_configure(config: pytest.Config) -> None:
    """The process that the others report to collects."""
    if (kind := config.getoption("--faults")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(rows.Collector(kind))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest files first, or one worker is left alone with them at the end.
    def place(order: list[str], name: str) -> int:
        return order.index(name) if name in order else len(order)

    items.sort(key=lambda item: (place(LONG, item.path.parent.name), place(FIRST, item.path.name)))
    for item in items:
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", (mark.args[0], mark.kwargs.get("trials", 1))))


def pytest_collection_finish() -> None:
    """What was imported and collected stays; the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays on one worker, and so do all that share the retraining `home`, which each worker would make anew."""
    from xdist.scheduler import LoadFileScheduling

    files = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests/flows").glob("test_*.py")}
    asking = (path for path, text in files.items() if re.search(r"[(,] ?home: Home", text) and "def home(" not in text)
    together = {path.relative_to(ROOT).as_posix() for path in asking}

    class TogetherAtHome(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "home" if file in together else file

    return TogetherAtHome(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In a drill, tests that inject a fault are run as often as they say."""
    times = max((mark.kwargs.get("drilled", 1) for mark in metafunc.definition.iter_markers("fault")), default=1)
    if rows.FULL and times > 1:
        metafunc.fixturenames.append("again")  # of those that repeat the very same, too
        metafunc.parametrize("again", range(times))


@pytest.fixture
def again() -> int:
    """How often a test has been run before in this drill."""
    return 0


@pytest.fixture(autouse=True, scope="session")
def _own_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the person's own Prefect database, servers or caches."""
    _factory.append(tmp_path_factory)
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(name, None)
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    os.environ["DVC_SITE_CACHE_DIR"] = str(tmp_path_factory.mktemp("dvc-site"))
    os.environ.update(DO_NOT_TRACK="true", MLFLOW_DISABLE_TELEMETRY="true", DVC_NO_ANALYTICS="1")


def copy_project(target: Path) -> Path:
    """The project's own files (no data, no runs) as a git and DVC repository of their own; of a session, one and the
    same commit."""

    def make(_: Path, path: Path) -> None:
        clone_project(path)
        subprocess.run(["git", "gc", "-q", "--prune=now"], cwd=path, check=True)
        for package in ("flows", "tasks", "weathervane"):  # or each copy's commands do it
            compileall.compile_dir(path / package, quiet=1)

    if not _factory:  # no test asks
        return clone_project(target)
    return Path(shutil.copytree(once(_factory[0], "clone", make), target, symlinks=True, dirs_exist_ok=True))


def clone_project(target: Path) -> Path:
    """`copy_project` from the start."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q"], cwd=target, check=True)
    subprocess.run([*git, "add", "-A"], cwd=target, check=True)
    subprocess.run([*git, "commit", "-qm", "start"], cwd=target, check=True)
    return target


def fresh(name: str) -> dict[str, Any]:
    """Changes with which a variant trains without any weights from elsewhere, and on small images."""
    has_weights = "weights" in variant.load(ROOT, name).network
    return {"network.weights": "none", "network.input_size": 32} if has_weights else {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh clone, as it were, in a folder of its own."""
    (tmp_path / "project").mkdir()
    return copy_project(tmp_path / "project")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path, Path], None]) -> Path:
    """A file that takes long to make, by the first worker that asks; `make` is given a folder for itself and the path.

    To be copied.
    """
    together = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        together = together.parent
    with FileLock(together / f"{name}.lock"):
        if not (together / name).exists():
            folder = factory.mktemp("making")
            make(folder, folder / name)
            (folder / name).rename(together / name)
    return together / name


def dvc(root: Path, *arguments: str) -> None:
    """A command of DVC's in a folder, by this process, which has imported it."""
    from dvc.cli import main

    with contextlib.chdir(root):
        assert main(list(arguments)) == 0, arguments


@dataclass(frozen=True)
class Said:
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


Here = Callable[..., Said]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Here:
    """`weathervane` in a folder, by this process, which has made its imports: for commands that a person reads the
    answer of, and whose ways of starting and ending others test."""
    import dvc  # noqa: F401
    import prefect  # noqa: F401

    from flows.cli import main

    # Only now: their log handlers keep the stdout of when they are imported, and this one is closed afterwards.
    capsys: pytest.CaptureFixture[str] = request.getfixturevalue("capsys")

    def command(root: Path, *arguments: str, **variables: str) -> Said:
        capsys.readouterr()
        with monkeypatch.context() as patch, mock.patch.dict(os.environ, {"COLUMNS": "200", **variables}):
            patch.chdir(root)
            patch.setattr(sys, "argv", ["weathervane", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return command


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty mlflow.db, which takes MLflow seconds to make; to be copied."""
    from tasks.tracking import make_database

    return once(tmp_path_factory, "mlflow.db", make_database)


@pytest.fixture
def database(tmp_path: Path, fresh_database: Path) -> None:
    """An empty mlflow.db in the test's folder."""
    shutil.copy(fresh_database, tmp_path)


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty prefect.db, which takes Prefect's server a dozen seconds to make; to be copied."""

    def make(folder: Path, path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_HOME", str(folder / "home"))
            with LocalServer.start(folder / "log") as server:
                server.wait()
        with closing(sqlite3.connect(folder / "home/prefect.db")) as made:  # and what is still in its journal
            made.execute("VACUUM INTO ?", [str(path)])

    return once(tmp_path_factory, "prefect.db", make)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """4 x 20 rendered skies, prepared at 32 pixels. Read only."""
    return Store(rendered(tmp_path_factory.mktemp("store"), 20, Prepare(image_size=32, shard=30)) / "data/prepared")


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The archive of real photographs; skips where it is absent."""
    path = Path(os.environ.get("WEATHERVANE_PHOTOGRAPHS", ROOT / "../shared/data/dataset2.zip")).resolve()
    if not path.is_file():
        pytest.skip("the real photographs are absent: set WEATHERVANE_PHOTOGRAPHS to their zip")
    return path
