"""Backups of real stores: taken while others write, restored elsewhere, damaged in every way."""

import base64
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import tracking
from tasks.backup import _move_paths, backup, restore
from weathervane import archives, synthetic
from weathervane.errors import InputError
from weathervane.model import Model
from weathervane.store import Store

LOADS = """
import base64, json, sys
import mlflow, pandas as pd

served = mlflow.pyfunc.load_model("models:/weather@champion")
image = base64.b64decode(sys.stdin.read())
print(json.dumps(served.predict(pd.DataFrame({"image": [image]})).to_dict("records")[0]))
"""


@pytest.fixture
def root(tmp_path: Path, fresh_database: Path) -> Path:
    """A project whose store holds one run with an artifact."""
    root = tmp_path / "here"
    root.mkdir()
    shutil.copy(fresh_database, root)
    run = tracking.start_run(root, tracking.experiment(root, "weather"), "cnn", {"kind": "variant"})
    tracking.client(root).log_text(run, "weights" * 1000, "model/model.safetensors")
    tracking.client(root).log_text(run, "", "empty.txt")
    tracking.log(root, run, metrics={"val/accuracy": 0.5})
    return root


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the locks."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rewritten(source: Path, target: Path, change: str) -> Path:
    """A copy of a backup to which something was added."""
    harmful = {
        "slip": ("../escaped.txt", tarfile.REGTYPE),
        "absolute": ("/tmp/weathervane-escaped.txt", tarfile.REGTYPE),
        "link": ("mlruns/link", tarfile.SYMTYPE),
        "device": ("mlruns/pipe", tarfile.FIFOTYPE),
        "twice": ("mlflow.db", tarfile.REGTYPE),
        "unlisted": ("mlruns/unlisted.txt", tarfile.REGTYPE),
    }
    name, kind = harmful[change]
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else "", 0
        new.addfile(entry)
        for member in old:
            new.addfile(member, old.extractfile(member))
    return target


@pytest.mark.slow
def test_a_champion_lives_on_in_another_folder(
    store: Store, tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backed up in one folder and restored in another, with the first one gone, the champion loads by its alias and
    classifies a picture as it did; MLflow's database names the old folder nowhere."""
    import mlflow
    import torch

    from weathervane.fit import seeded
    from weathervane.model import Spec, build

    here, there = tmp_path / "here", tmp_path / "there"
    spec = Spec(
        "dnn", "dnn", {"hidden": [4, 4], "dropout": 0.0, "input_size": 4}, 8, store.size, store.classes, False, {}
    )
    with seeded(0, torch.device("cpu")):
        model = Model(build(spec), spec, torch.device("cpu"))
    model.save(tmp_path / "model", store.pixels(np.arange(8)))
    here.mkdir()
    shutil.copy(fresh_database, here)
    client, package = tracking.client(here), Path(synthetic.__file__).parent
    run = tracking.start_run(here, tracking.experiment(here, "weather"), "dnn", {"kind": "variant"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    mlflow.set_experiment("weather")  # another test of this process may have set its own
    with mlflow.start_run(run_id=run):
        logged = mlflow.pyfunc.log_model(
            name="dnn",
            python_model=str(package.parent / "tasks/served.py"),
            code_paths=[str(package)],
            artifacts={"model": str(tmp_path / "model")},
            pip_requirements=["torch"],
        )
    client.create_registered_model("weather")
    made = client.create_model_version("weather", logged.model_uri, run, model_id=logged.model_id)
    client.set_registered_model_alias("weather", "champion", made.version)

    backup(here, tmp_path / "store.tar")
    shutil.rmtree(here)
    there.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{there}/mlflow.db")
    restore(there, tmp_path / "store.tar", force=False)
    _, photograph = next(iter(synthetic.images(1, 5)))
    done = subprocess.run(
        [sys.executable, "-c", LOADS],
        cwd=tmp_path,
        input=base64.b64encode(photograph).decode(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    row, (expected,) = json.loads(done.stdout.splitlines()[-1]), model.classify([photograph])
    assert [row[f"p_{label}"] for label in store.classes] == pytest.approx(expected.tolist(), abs=1e-6)
    with sqlite3.connect(there / "mlflow.db") as database:
        dump = "\n".join(database.iterdump())
    assert str(there) in dump and f"{here}/" not in dump


def test_restored_is_what_was_backed_up(root: Path, tmp_path: Path) -> None:
    """Artifacts come back byte for byte, empty ones too; runs and metrics as they were; nothing else is left behind."""
    count, elsewhere = backup(root, tmp_path / "store.tar")
    other = tmp_path / "other"
    other.mkdir()
    manifest, aside = restore(other, tmp_path / "store.tar", force=False)
    assert (count, elsewhere, aside) == (len(manifest.files), [], [])
    before, after = content(root), content(other)
    before.pop("mlflow.db"), after.pop("mlflow.db")
    assert before == after and len(after) == 2
    (run,) = tracking.client(other).search_runs(["1"])
    assert run.data.metrics == {"val/accuracy": 0.5}
    assert run.info.artifact_uri.startswith(f"{other}/mlruns/weather/")
    assert tracking.client(other).list_artifacts(run.info.run_id, "model")
    for folder in (root, other):
        assert [path.name for path in (folder / ".weathervane").iterdir()] == ["locks"]


# The columns in which MLflow keeps paths.
PATHS = {"experiments": ["artifact_location"], "runs": ["artifact_uri"], "logged_models": ["artifact_location"],
         "model_versions": ["source", "storage_location"]}  # fmt: skip


def test_paths_below_the_old_folder_move_and_no_others(tmp_path: Path) -> None:
    """Paths below the old folder are rewritten in every column where MLflow keeps one, plain or as a URI; those in a
    bucket or in a folder whose name only begins alike stay."""
    here = ["/old", "/old/a", "file:///old/a", "/older/a", "/p/old/a", "s3://bucket/a", "models:/m-1"]
    there = ["/new", "/new/a", "file:///new/a", *here[3:]]
    with sqlite3.connect(tmp_path / "db") as database:
        for table, columns in PATHS.items():
            database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            marks = ", ".join("?" * len(columns))
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", [[one] * len(columns) for one in here])
    _move_paths(tmp_path / "db", "/old", "/new")
    with sqlite3.connect(tmp_path / "db") as database:
        for table, columns in PATHS.items():
            for column in columns:
                assert [row[0] for row in database.execute(f"SELECT {column} FROM {table}")] == there, column


def test_a_run_that_was_at_work_ends_with_its_backup(root: Path, tmp_path: Path) -> None:
    """In the store that is restored it is killed, so that a retraining goes on with it; in the other it runs on. What
    had ended stays as it was."""
    client = tracking.client(root)
    (running,) = client.search_runs([tracking.experiment(root, "weather")])
    ended = tracking.start_run(root, tracking.experiment(root, "weather"), "dnn", {})
    tracking.end_run(root, ended)
    backup(root, tmp_path / "b.tar")
    elsewhere = tmp_path / "there"
    elsewhere.mkdir()
    made = datetime.strptime(restore(elsewhere, tmp_path / "b.tar", False)[0].made, "%Y-%m-%d %H:%M:%S")
    there = tracking.client(elsewhere)
    info = there.get_run(running.info.run_id).info
    assert (info.status, info.end_time) == ("KILLED", made.replace(tzinfo=UTC).timestamp() * 1000)
    assert there.get_run(ended).info.end_time == client.get_run(ended).info.end_time
    assert client.get_run(running.info.run_id).info.status == "RUNNING"


def test_a_store_of_any_size_is_restored(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `backup` wrote is read back, however much it is: the bounds are those of foreign archives."""
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    monkeypatch.setattr(archives, "MAX_TOTAL", 1)
    backup(root, tmp_path / "b.tar")
    with pytest.raises(InputError, match="more than is read from one archive"):
        archives.members(tmp_path / "b.tar")
    (tmp_path / "there").mkdir()
    assert len(restore(tmp_path / "there", tmp_path / "b.tar", False)[0].files) == 3


def test_a_folder_that_was_moved_to_another_disk_is_in_it(root: Path, tmp_path: Path) -> None:
    """With a link in its place, as after a full disk: the artifacts behind it are backed up as if they stood here."""
    before = content(root)
    (root / "mlruns/weather").rename(tmp_path / "weather")
    (root / "mlruns/weather").symlink_to(tmp_path / "weather")
    backup(root, tmp_path / "store.tar")
    other = tmp_path / "other"
    other.mkdir()
    restore(other, tmp_path / "store.tar", force=False)
    after = content(other)
    before.pop("mlflow.db"), after.pop("mlflow.db")
    assert before == after and len(after) == 2


def test_a_folder_that_cannot_be_read_stops_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup is whole or is not there: whoever backs up is told of the folder."""
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("mlruns/weather"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="mlruns/weather: Permission denied"):
        backup(root, tmp_path / "store.tar")
    assert not (tmp_path / "store.tar").exists()
    shutil.rmtree(root / "mlruns")  # all artifacts are elsewhere, say
    assert backup(root, tmp_path / "store.tar")[0] == 1


def test_artifacts_that_lie_elsewhere_are_told(root: Path, tmp_path: Path) -> None:
    """Of a clone that was moved, and of runs whose artifacts are in a bucket, a backup has the database alone: it says
    so instead of passing for a whole one."""
    client = tracking.client(root)
    places = (f"{root}/mlruns2", "s3://bucket/another")
    made = [client.create_run(client.create_experiment(place, place)).info.artifact_uri for place in places]
    (here,) = client.search_runs(["1"])
    _, elsewhere = backup(root, tmp_path / "store.tar")
    assert elsewhere == made
    _, elsewhere = backup(root.rename(tmp_path / "moved"), tmp_path / "store.tar")
    assert elsewhere == [here.info.artifact_uri, *made]


def test_a_backup_is_of_one_moment_while_others_write(root: Path, tmp_path: Path) -> None:
    """With a writer at work the copied database is sound, and holds each of its transactions whole or not at all."""
    database, stop = root / "mlflow.db", threading.Event()
    with sqlite3.connect(database) as made:
        made.execute("CREATE TABLE pairs (left_ INTEGER, right_ INTEGER)")

    def write() -> None:
        connection = sqlite3.connect(database, timeout=60)
        number = 0
        while not stop.is_set():
            number += 1
            connection.execute("INSERT INTO pairs VALUES (?, 0)", (number,))
            connection.execute("UPDATE pairs SET right_ = left_ WHERE left_ = ?", (number,))
            connection.commit()
            time.sleep(0.001)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = []
        for number in range(5):
            time.sleep(0.1)
            backup(root, tmp_path / "store.tar")
            (tmp_path / str(number)).mkdir()
            restore(tmp_path / str(number), tmp_path / "store.tar", force=False)
            with sqlite3.connect(tmp_path / str(number) / "mlflow.db") as copy:
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert copy.execute("SELECT count(*) FROM pairs WHERE left_ != right_").fetchone() == (0,)
                counts += copy.execute("SELECT count(*) FROM pairs").fetchone()
    finally:
        stop.set()
        writer.join()
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_a_store_is_never_overwritten(root: Path, tmp_path: Path) -> None:
    """Where there is a store, restoring is refused; with --force the old one is kept whole under another name."""
    backup(root, tmp_path / "store.tar")
    run = tracking.start_run(root, "1", "later", {})
    tracking.client(root).log_text(run, "later", "later.txt")
    (root / "mlflow.db-wal").write_bytes(b"")
    before = content(root)
    with pytest.raises(InputError, match=r"mlflow.db and mlflow.db-wal and mlruns would be overwritten.*--force"):
        restore(root, tmp_path / "store.tar", force=False)
    assert content(root) == before
    _, aside = restore(root, tmp_path / "store.tar", force=True)
    names = [path.name for path in aside]
    assert names[1] == f"{names[0]}-wal" and names[2].startswith("mlruns.before-")
    assert content(aside[2]) == {name[7:]: data for name, data in before.items() if name.startswith("mlruns/")}
    assert aside[0].read_bytes() == before["mlflow.db"]
    assert not (root / "mlflow.db-wal").exists() and "later.txt" not in str(list((root / "mlruns").rglob("*")))


@pytest.mark.fault(51)
@pytest.mark.parametrize("change", ["slip", "absolute", "link", "device", "twice", "unlisted"])
def test_an_archive_that_means_harm_is_refused(root: Path, tmp_path: Path, change: str) -> None:
    """Members that would leave the folder, links, devices, names that come twice or that the manifest does not list:
    refused whole, with nothing changed."""
    backup(root, tmp_path / "store.tar")
    other = tmp_path / "other"
    (other / ".weathervane").mkdir(parents=True)
    with pytest.raises(InputError, match="evil"):
        restore(other, rewritten(tmp_path / "store.tar", tmp_path / "evil.tar", change), force=True)
    assert content(other) == {}
    assert not (tmp_path / "escaped.txt").exists() and not Path("/tmp/weathervane-escaped.txt").exists()


def test_a_cut_off_backup_is_refused(root: Path, tmp_path: Path) -> None:
    """However much of it is there, nothing is changed; the one that is whole is taken."""
    whole, cut = tmp_path / "store.tar", tmp_path / "cut.tar"
    backup(root, whole)
    data = whole.read_bytes()
    with tarfile.open(whole) as archive:
        borders = [member.offset for member in archive]
    needed = borders[-1] + 512 + archive.members[-1].size
    rng, other = random.Random(0), tmp_path / "other"
    other.mkdir()
    for size in [0, 1, 511, *borders, needed - 1, *(rng.randrange(needed) for _ in range(20))]:
        cut.write_bytes(data[:size])
        with pytest.raises(InputError, match="cut"):
            restore(other, cut, force=True)
        assert content(other) == {}, size
    restore(other, whole, force=False)


def test_a_flipped_byte_is_noticed(root: Path, tmp_path: Path) -> None:
    """A byte that is not what it was is told and nothing is changed, unless it is one that nobody reads (what fills up
    the archive's blocks, the times of its files): then what is restored is what was backed up."""
    whole, damaged = tmp_path / "store.tar", tmp_path / "damaged.tar"
    backup(root, whole)
    data, rng, refused = whole.read_bytes(), random.Random(0), 0
    (tmp_path / "whole").mkdir()
    restore(tmp_path / "whole", whole, force=False)
    expected = content(tmp_path / "whole")
    with tarfile.open(whole) as archive:
        places = [member.offset_data + member.size // 2 for member in archive if member.size]
        places += [member.offset + byte for member in archive for byte in (5, 130, 156, 260)]
    for place in [*places, *(rng.randrange(len(data)) for _ in range(20))]:
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
        other = tmp_path / "whole"  # the same folder, so that the paths in the database are the same
        shutil.rmtree(other)
        other.mkdir()
        try:
            restore(other, damaged, force=False)
        except InputError as error:
            assert "damaged.tar" in str(error)
            assert content(other) == {}, place
            refused += 1
        else:
            assert content(other) == expected, place
    assert refused >= len(places)


@pytest.mark.fault(17)
def test_a_full_disk_is_told_before_anything_is_unpacked(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that are needed and those that are free are named."""
    backup(root, tmp_path / "store.tar")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(InputError, match=r"store.tar: [\d,]+ bytes are needed, 1,000 are free"):
        restore(tmp_path / "other", tmp_path / "store.tar", force=False)
    assert content(tmp_path / "other") == {}


def test_a_killed_backup_leaves_the_last_one(root: Path, tmp_path: Path) -> None:
    """The file is the old backup or the new one, at whatever moment the writing was killed."""
    target = tmp_path / "store.tar"
    backup(root, target)
    old = target.read_bytes()
    tracking.client(root).log_text(tracking.start_run(root, "1", "more", {}), "x" * 30_000_000, "large.txt")
    process = os.fork()
    if process == 0:
        backup(root, target)
        os._exit(0)
    while not [path for path in tmp_path.glob(".store.tar.*.part") if path.stat().st_size > 1_000_000]:
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])
    assert target.read_bytes() == old


def test_a_servers_store_is_left_to_its_operator(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server configured, a backup of local files would be one of nothing: told in a line, without secrets."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@example.org")
    for work in (lambda: backup(root, tmp_path / "x.tar"), lambda: restore(root, tmp_path / "x.tar", force=True)):
        with pytest.raises(InputError, match="whoever runs the server") as told:
            work()
        assert "secret" not in str(told.value)
    assert not (tmp_path / "x.tar").exists()


def test_a_tar_file_is_called_one(root: Path, tmp_path: Path) -> None:
    """Under a zip's name `restore` would take it for a damaged zip."""
    with pytest.raises(InputError, match=r"b\.zip: a tar file is written: call it b\.tar$"):
        backup(root, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()
    with pytest.raises(InputError, match=r"no/such is not there$"):
        backup(root, tmp_path / "no/such/b.tar")


def test_nothing_to_back_up_is_told(tmp_path: Path) -> None:
    """In a fresh clone there is no store, and none is made."""
    with pytest.raises(InputError, match=r"mlflow.db: no such file: nothing was tracked yet"):
        backup(tmp_path, tmp_path / "store.tar")
    assert content(tmp_path) == {}


@pytest.mark.parametrize("content_", [b"", b"no archive", b"PK\x03\x04"])
def test_something_else_is_no_backup(tmp_path: Path, content_: bytes) -> None:
    """Any other file is refused, and one that is not there."""
    (tmp_path / "x.tar").write_bytes(content_)
    for name in ("x.tar", "absent.tar"):
        with pytest.raises(InputError, match=name):
            restore(tmp_path / "other", tmp_path / name, force=False)


def test_an_archive_of_something_else_is_no_backup(tmp_path: Path) -> None:
    """A tar of other files has no manifest."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        entry = tarfile.TarInfo("mlflow.db")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    with pytest.raises(InputError, match="its last file is no manifest"):
        restore(tmp_path / "other", tmp_path / "x.tar", force=False)
