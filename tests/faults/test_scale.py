"""Killed at any moment, out of room, and with much that is known already: rows 17 and 28, for the data."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.noise import photograph
from tests.rows import often
from weathervane.errors import InputError
from weathervane.files import replacing
from weathervane.ingest import Ingest, borrowed, ingest, inspect, refuse_edits, unchanged
from weathervane.ledger import Ledger
from weathervane.prepare import Prepare, prepare
from weathervane.sorting import Report
from weathervane.sources import Local
from weathervane.store import Store

ROOT = Path(__file__).parents[2]
KILLS = often(10, 200)

# What processes of their own can do to a project.
STEPS = """
import os, signal, sys
from pathlib import Path
from weathervane import examine
from weathervane.ingest import Ingest, ingest
from weathervane.prepare import Prepare, prepare

def take_in(root, source):
    params = {"dataset": "t", "sources": [{"kind": "local", "path": str(source)}], "test_fraction": 0.2, "folds": 2}
    return ingest(Ingest.model_validate(params | {"seed": 0, "max_bad": 0.5, "min_per_class": 3}), root)

def lay_out(root, source):
    return prepare(Prepare(image_size=32, shard=4), root)

def lay_out_large(root, source):
    return prepare(Prepare(image_size=128, shard=60), root)
"""


def fill(folder: Path, numbers: range, **size: int) -> Path:
    """Photographs of two classes by turns."""
    for n in numbers:
        path = folder / ("rain", "shine")[n % 2] / f"{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(n, **size))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """12 photographs, an exact copy, two bad files and one to be ignored."""
    folder = fill(tmp_path / "source", range(12))
    (folder / "rain/copy.jpg").write_bytes(photograph(0))
    (folder / "rain/bad.jpg").write_bytes(b"bad")
    (folder / "rain/cut.jpg").write_bytes(photograph(99, 640, 480)[:9000])
    (folder / "rain/.DS_Store").write_bytes(b"x")
    return folder


def params(source: Path, **changes: Any) -> Ingest:
    given = {"dataset": "t", "sources": [{"kind": "local", "path": str(source)}], "test_fraction": 0.2, "folds": 2}
    return Ingest.model_validate(given | {"seed": 0, "max_bad": 0.5, "min_per_class": 3} | changes)


@pytest.fixture
def trials() -> Iterator[Path]:
    """A folder in memory, where there is one: a disk that others use takes minutes to sync a few thousand times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def content(folder: Path) -> dict[str, bytes]:
    """Every file under the folder, with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lists(report: Report) -> tuple[Any, ...]:
    return report.accepted, report.duplicates, report.quarantined, report.ignored, report.known


def run(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STEPS + script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, **options)


# Row 28: killed before any of the steps that change a file

EVERYWHERE = """
import shutil

work, template, trials, source = globals()[sys.argv[1]], *map(Path, sys.argv[2:5])
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "sqlite3.connect", "shutil.rmtree"}

def run_and_die(root, at):
    seen = 0
    def watch(event, details):
        nonlocal seen
        if event in CHANGES or (event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    work(root, source)

def child(function, *given):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        function(*given)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

shutil.copytree(template, trials / "warm")
work(trials / "warm", source)  # imports what it needs: the children are forked
at, every = 1, int(sys.argv[5])
while True:
    root = trials / str(at)
    shutil.copytree(template, root)
    status = child(run_and_die, root, at)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert child(work, root, source) == 0
    at += every
print(at)
"""


def killed_everywhere(step: str, template: Path, trials: Path, source: Path) -> list[Path]:
    """Copies of the project, each after a kill before another of the step's changes of a file (every third of them; all
    in a drill), and a second start."""
    every = often(3, 1)
    done = run(EVERYWHERE, step, template, trials, source, every)
    assert done.returncode == 0, done.stderr
    return [trials / str(at) for at in range(1, int(done.stdout.split()[-1]), every)]


@pytest.mark.fault(28)
def test_ingest_killed_before_any_change_of_a_file(source: Path, tmp_path: Path, trials: Path) -> None:
    """After the second start data/raw and quarantine are, to the byte, those of an ingest that was never killed."""
    (tmp_path / "template").mkdir()
    ingest(params(source), tmp_path / "whole")
    wanted = content(tmp_path / "whole/data"), content(tmp_path / "whole/.weathervane/quarantine")
    projects = killed_everywhere("take_in", tmp_path / "template", trials, source)
    assert len(projects) > often(13, 40)
    for root in projects:
        assert (content(root / "data"), content(root / ".weathervane/quarantine")) == wanted, root.name
        assert {path.name for path in (root / ".weathervane").iterdir()} == {
            "quarantine",
            "examined.sqlite",
            "ingest.json",
        }


@pytest.mark.fault(28)
def test_a_growing_ingest_killed_before_any_change_of_a_file(source: Path, tmp_path: Path, trials: Path) -> None:
    """The same for images that join a ledger: nobody moves, and the number of the ingest is the same."""
    ingest(params(source), tmp_path / "template")
    fill(source, range(20, 25))
    shutil.copytree(tmp_path / "template", tmp_path / "whole")
    ingest(params(source), tmp_path / "whole")
    wanted = content(tmp_path / "whole/data")
    assert Ledger.read(tmp_path / "whole/data/raw").ingests == 2
    projects = killed_everywhere("take_in", tmp_path / "template", trials, source)
    assert len(projects) > often(6, 20)
    for root in projects:
        assert content(root / "data") == wanted, root.name


@pytest.mark.fault(28)
def test_prepare_killed_before_any_change_of_a_file(source: Path, tmp_path: Path, trials: Path) -> None:
    """After the second start data/prepared is that of a prepare that was never killed, and nothing else is left."""
    ingest(params(source), tmp_path / "template")
    shutil.copytree(tmp_path / "template", tmp_path / "whole")
    prepare(Prepare(image_size=32, shard=4), tmp_path / "whole")
    projects = killed_everywhere("lay_out", tmp_path / "template", trials, source)
    assert len(projects) > often(5, 15)
    for root in projects:
        assert content(root / "data") == content(tmp_path / "whole/data"), root.name
        assert not (root / ".weathervane/prepare").exists()


# Row 28: killed at random moments

ONCE = """
print("ready", flush=True)
globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
"""


def killed_at_random(step: str, root: Path, source: Path, longest: float, seed: int) -> int:
    """Start the step and kill it, up to three times, each after a random time; then let it end. How many hit."""
    moments, killed = random.Random(seed), 0
    for _ in range(moments.randint(1, 3)):
        command = [sys.executable, "-c", STEPS + ONCE, step, str(root), str(source)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(moments.uniform(0, longest))
            child.kill()
            killed += child.wait() == -9
    done = run(ONCE, step, root, source)
    assert done.returncode == 0, done.stderr
    return killed


@pytest.mark.fault(28, trials=KILLS)
@pytest.mark.slow
@pytest.mark.drill
def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Ingest and prepare, killed up to three times each at random: the same bytes as without; most kills hit."""
    source, whole = fill(tmp_path / "source", range(60), width=900, height=700), tmp_path / "whole"
    starts = [time.monotonic()]
    for step in (lambda: ingest(params(source), whole), lambda: prepare(Prepare(image_size=32, shard=4), whole)):
        step()
        starts.append(time.monotonic())
    killed = 0
    for trial in range(KILLS):
        root = tmp_path / f"trial{trial}"
        killed += killed_at_random("take_in", root, source, starts[1] - starts[0], 2 * trial)
        killed += killed_at_random("lay_out", root, source, starts[2] - starts[1], 2 * trial + 1)
        assert content(root / "data") == content(whole / "data"), trial
        shutil.rmtree(root)
    assert killed > 2 * KILLS


# What was done is not done again

DIE_AFTER = """
examine.COMMIT_EVERY = 0.0
def watch(event, details):
    if event == "open" and len(list(Path(sys.argv[2], sys.argv[4]).glob("*"))) >= int(sys.argv[5]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
"""


def test_a_killed_ingest_neither_reads_nor_decodes_again(tmp_path: Path) -> None:
    """Killed with 20 of 40 staged, the second start reads the rest; what is staged counts by its content only."""
    source, root = fill(tmp_path / "source", range(40)), tmp_path / "root"
    assert run(DIE_AFTER, "take_in", root, source, ".weathervane/ingest", 20).returncode == -9
    staged = sorted((root / ".weathervane/ingest").iterdir())
    assert len(staged) == 20 and not (root / "data").exists()
    torn, changed = staged[:2]
    torn.write_bytes(torn.read_bytes()[:100])
    changed.write_bytes(b"something else")
    report = ingest(params(source), root)
    assert report.read == 22 and report.decoded <= 20 and len(report.accepted) == 40
    ingest(params(source), tmp_path / "whole")
    assert content(root / "data") == content(tmp_path / "whole/data")


def test_a_killed_prepare_keeps_its_shards(tmp_path: Path) -> None:
    """Shards that are whole are kept, if they are of these images at this size; the second start makes the others."""
    source, root = fill(tmp_path / "source", range(40)), tmp_path / "root"
    ingest(params(source), root)
    assert run(DIE_AFTER, "lay_out", root, source, ".weathervane/prepare", 6).returncode == -9
    made = {path.name: path.stat().st_ino for path in (root / ".weathervane/prepare").glob("[!.]*")}
    assert len(made) >= 5 and not (root / "data/prepared").exists()
    shutil.copytree(root, tmp_path / "other")
    assert prepare(Prepare(image_size=32, shard=4), root) == 40
    kept = {path.stat().st_ino for path in (root / "data/prepared/pixels").iterdir()}
    assert kept > set(made.values())
    prepare(Prepare(image_size=16, shard=4), tmp_path / "other")
    assert Store(tmp_path / "other/data/prepared").size == 16


def test_prepare_names_an_image_that_changed(source: Path, tmp_path: Path) -> None:
    """No shard is made of other bytes than the ledger's: the image is named, with the command that mends it."""
    ingest(params(source), tmp_path)
    row = Ledger.read(tmp_path / "data/raw").rows[3]
    (tmp_path / "data/raw" / row.path).write_bytes(photograph(1234))
    with pytest.raises(InputError, match=f"data/raw/{row.path}: not the bytes that were taken in: .*dvc checkout"):
        prepare(Prepare(image_size=32, shard=4), tmp_path)
    assert not (tmp_path / "data/prepared").exists()


def test_an_inbox_costs_what_is_new(source: Path, tmp_path: Path) -> None:
    """5 files added: 5 read and decoded; a touched file is read, not decoded; a moved inbox likewise."""
    root = tmp_path / "root"
    first = ingest(params(source), root)
    assert first.read == 15 and first.decoded in (14, 15)  # two threads may look at the two copies at once
    assert unchanged(params(source), root)
    again = ingest(params(source), root)
    assert (again.files, again.read, again.decoded, again.known) == (16, 0, 0, 13)
    fill(source, range(20, 25))
    grown = ingest(params(source), root)
    assert (grown.files, grown.read, grown.decoded, len(grown.accepted)) == (21, 5, 5, 5)
    assert "21 files, 5 read, 5 decoded: 5 new" in str(grown)
    os.utime(source / "rain/0.jpg", ns=(1, 1))
    touched = ingest(params(source), root)
    assert (touched.read, touched.decoded, touched.known) == (1, 0, 18)
    source.rename(tmp_path / "elsewhere")
    moved = ingest(params(tmp_path / "elsewhere"), root)
    assert (moved.read, moved.decoded, moved.known) == (20, 0, 18)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_an_archive_beside_an_inbox_is_not_unpacked_again(ending: str, source: Path, tmp_path: Path) -> None:
    """A dataset in an archive and an inbox in one list: only what is new in the inbox is read."""
    kind = {".zip": "zip", ".tar.gz": "gztar"}[ending]
    archive = shutil.make_archive(str(tmp_path / "archive"), kind, source)
    inbox, root = fill(tmp_path / "inbox", range(30, 36)), tmp_path / "root"
    sources = [{"kind": "local", "path": archive}, {"kind": "local", "path": str(inbox)}]
    assert ingest(params(inbox, sources=sources), root).read == 21
    fill(inbox, range(40, 45))
    assert ingest(params(inbox, sources=sources), root).read == 5


def test_what_was_quarantined_as_a_conflict_is_judged_anew(source: Path, tmp_path: Path) -> None:
    """One picture under two classes is quarantined; when one of the two is removed, the other is taken in."""
    root = tmp_path / "root"
    (source / "shine/same.jpg").write_bytes(photograph(0))
    first = ingest(params(source), root)
    assert len(first.accepted) == 11 and [bad.reason for bad in first.quarantined].count("label conflict") == 2
    (source / "shine/same.jpg").unlink()
    assert [row.name for row in ingest(params(source), root).accepted] == ["rain/0.jpg"]


def test_the_record_is_only_a_cache(source: Path, tmp_path: Path) -> None:
    """Damaged, of other code, or deleted: pictures are looked at again, and the outcome is the same."""
    root, record = tmp_path / "root", tmp_path / "root/.weathervane/examined.sqlite"
    ingest(params(source), root)
    before = content(root / "data")
    size = record.stat().st_size

    def flipped() -> None:
        damaged = bytearray(record.read_bytes())
        damaged[100:-1] = os.urandom(len(damaged) - 101)
        record.write_bytes(damaged)

    def of_other_code() -> None:
        damaged = bytearray(record.read_bytes())
        damaged[60:64] = b"\0\0\0\1"  # the place of SQLite's user_version
        record.write_bytes(damaged)

    for damage in (lambda: record.write_bytes(b"no database " * 999), record.unlink, flipped, of_other_code):
        damage()
        assert ingest(params(source), root).known == 13
        assert content(root / "data") == before
        ingest(params(source), root)
        assert ingest(params(source), root).read == 0
        assert record.stat().st_size >= size // 2


def test_looking_at_a_source_changes_nothing(source: Path, tmp_path: Path) -> None:
    """`data check` says what an ingest would, and leaves no record."""
    root = tmp_path / "root"
    with borrowed(root) as record:
        checked, _ = inspect(Local(kind="local", path=str(source)), params(source), root, Ledger(root), record)
    assert not (tmp_path / "root").exists()
    assert lists(checked)[1:] == lists(ingest(params(source), tmp_path / "root"))[1:]


def test_what_arrives_during_an_ingest_is_for_the_next(source: Path, tmp_path: Path) -> None:
    """A file that comes after the folder was listed is not recorded as seen."""
    root, late = tmp_path / "root", source / "shine/late.jpg"
    script = """
def watch(event, details):
    if event == "os.rename" and not Path(sys.argv[4]).exists():
        Path(sys.argv[4]).write_bytes(Path(sys.argv[3], "rain/0.jpg").read_bytes() + b" ")
sys.addaudithook(watch)
print(len(take_in(Path(sys.argv[2]), sys.argv[3]).accepted))
"""
    assert run(script, "take_in", root, source, late).stdout.split()[-1] == "12"
    assert late.exists() and not unchanged(params(source), root)


def test_images_that_changed_in_place_are_named(source: Path, tmp_path: Path) -> None:
    """Changed or removed in data/raw: told at once; a copy with other times is hashed, and is no change."""
    ingest(params(source), tmp_path)
    refuse_edits(tmp_path)
    rows = Ledger.read(tmp_path / "data/raw").rows
    touched, changed, removed = (tmp_path / "data/raw" / row.path for row in rows[:3])
    os.utime(touched, ns=(1, 1))
    refuse_edits(tmp_path)
    changed.write_bytes(touched.read_bytes())
    removed.unlink()
    with pytest.raises(InputError, match=f"data/raw/{rows[1].path} and 1 more: .*dvc checkout"):
        refuse_edits(tmp_path)


def test_images_without_a_ledger_are_not_dealt_anew(source: Path, tmp_path: Path) -> None:
    """If the ledger is gone and the images are not, ingest refuses: new splits would mix train and test."""
    ingest(params(source), tmp_path)
    (tmp_path / "data/raw/ledger.csv").unlink()
    with pytest.raises(InputError, match=r"no ledger\.csv: bring it back with 'dvc checkout"):
        ingest(params(source), tmp_path)


# Row 17: no room

WRITERS = """
from tests.rows import often
from weathervane.errors import InputError
from weathervane.files import replacing
from weathervane.ledger import Ledger

def write(path, source, **options):
    with replacing(path, "wb", **options) as file:
        for _ in range(3000):
            file.write(bytes(1000))

def write_text(path, source):
    with replacing(path) as file:
        for _ in range(3000):
            file.write("x" * 1000)

def write_reserved(path, source):
    write(path, source, size=3_000_000)

try:
    globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
except InputError as error:
    print(error)
    sys.exit(2)
"""
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"


def in_little_room(step: str, small: Path, path: str, source: Path, before: Path | None = None) -> str:
    """What the step says on a disk of 2 MB, mounted for it alone at `small`; what it leaves stands in `small`-left."""
    left, copy = f"{small}-left", f"cp -r {before}/. {small};" if before else ""
    shell = (
        f"mount -t tmpfs -o size=2m none {small} || exit 77; {copy}"
        f'{sys.executable} -c "$SCRIPT" {step} {small}/{path} {source}; code=$?; cp -a {small} {left}; exit $code'
    )
    small.mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell],
        cwd=ROOT,
        env=os.environ | {"SCRIPT": STEPS + WRITERS},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77:
        pytest.skip("no small disk can be mounted here")
    assert done.returncode == 2, done.stderr
    (line,) = done.stdout.splitlines()[-1:]
    return line


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 photographs of 100 KB: more than fits."""
    return fill(tmp_path_factory.mktemp("large"), range(60), width=1600, height=1200)


@pytest.mark.fault(17)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize(
    ("step", "needed"),
    [("write", "at least 2,"), ("write_text", "at least 2,"), ("write_reserved", "at least 3,000,000")],
)
def test_replacing_on_a_full_disk(step: str, needed: str, tmp_path: Path) -> None:
    """One line names the file, the bytes needed, the bytes free and the folder; the old file is whole and alone."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before/x").write_bytes(b"old")
    line = in_little_room(step, tmp_path / "small", "x", tmp_path, tmp_path / "before")
    assert line.startswith(f"{tmp_path}/small/x: the disk is full: {needed}")
    free = int(line.split(" bytes are needed, ")[1].split()[0].replace(",", ""))
    assert 1_900_000 < free < 2_097_152
    assert f"free in {tmp_path}/small: make room" in line
    assert content(tmp_path / "small-left") == {"x": b"old"}


@pytest.mark.fault(17)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_ingest_on_a_full_disk(large: Path, tmp_path: Path) -> None:
    """One line names the bytes needed and free; no image and no staged byte is left, and the next try works."""
    line = in_little_room("take_in", tmp_path / "small", "", large)
    assert "/.weathervane/ingest/" in line and "the disk is full: at least" in line and "make room" in line
    assert set(content(tmp_path / "small-left")) <= {".weathervane/examined.sqlite"}
    assert len(ingest(params(large), tmp_path / "small-left").accepted) == 60


@pytest.mark.fault(17)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_prepare_on_a_full_disk(tmp_path: Path) -> None:
    """A full disk is told before anything is decoded; nothing half-written is left, and data/raw is as it was."""
    source = fill(tmp_path / "source", range(60))
    ingest(params(source), tmp_path / "before")
    shutil.rmtree(tmp_path / "before/.weathervane")
    line = in_little_room("lay_out_large", tmp_path / "small", "", source, tmp_path / "before")
    assert "/.weathervane/prepare: 2,949,120 bytes are needed" in line and "make room" in line
    assert content(tmp_path / "small-left") == content(tmp_path / "before")


RECORD = """
from tasks.data import ingest_and_record
from tests.rows import often
from weathervane.errors import InputError
try:
    ingest_and_record(Path(sys.argv[1]))
except InputError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.fault(17)
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_cache_on_a_full_disk(project: Path, large: Path) -> None:
    """DVC logs what it cannot copy and records it all the same; we record nothing, and the next try works."""
    params = project / "params/ingest.yaml"
    text = params.read_text().replace("dataset: weather-synthetic", "dataset: t")
    skies = "kind: synthetic\n  per_class: 100\n  seed: 0\n"
    assert skies in text
    params.write_text(text.replace(skies, f"kind: local\n  path: {large}\n"))
    cache, tracked = project / ".dvc/cache", project / "data/raw.dvc"
    cache.mkdir(exist_ok=True)
    before = tracked.read_bytes()
    shell = f'mount -t tmpfs -o size=2m none {cache} || exit 77; {sys.executable} -c "$SCRIPT" {project}'
    environment = os.environ | {"SCRIPT": STEPS + RECORD}
    command = ["unshare", "-rm", "sh", "-c", shell]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode == 77:
        pytest.skip("no small disk can be mounted here")
    assert done.returncode == 2, done.stderr
    assert f"{cache}/files/md5: DVC could not copy all of raw there: up to 4," in done.stdout
    assert tracked.read_bytes() == before
    assert run(RECORD, project).returncode == 0
    assert tracked.read_bytes() != before


@pytest.mark.fault(17)
def test_files_that_may_not_grow(large: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE of 1 MB: every writer tells the bytes that it needs, and leaves nothing half-written."""
    old = tmp_path / "x"
    for step in ("write", "write_text", "write_reserved"):
        old.write_bytes(b"old")
        done = run(LIMITED + WRITERS, step, old, large)
        assert done.returncode == 2, done.stderr
        assert f"{old}: no file may be so large here" in done.stdout and " bytes are needed" in done.stdout
        assert content(tmp_path) == {"x": b"old"}
    root = tmp_path / "root"
    ingest(params(large), root)
    before = content(root / "data")
    done = run(LIMITED + WRITERS, "lay_out_large", root, large)
    assert done.returncode == 2, done.stderr
    assert "no file may be so large here" in done.stdout and "at least 2,949,248 bytes are needed" in done.stdout
    assert content(root / "data") == before and not list((root / ".weathervane/prepare").iterdir())


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    """A folder that is a file is told as what it is."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError), replacing(tmp_path / "file/x"):
        pass
