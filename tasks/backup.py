"""`weathervane backup` and `restore`: the local MLflow store, database and artifacts, as one tar file.

The archive ends with a manifest of every file's sha256, whose own stands in its name: one without it, or with anything
beside what it lists, is refused.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import Field

from tasks.locks import BACKUP, STORE, lock, retrain_lock, waited_for
from tasks.tracking_read import local, opened, uri
from weathervane import archives, project
from weathervane.errors import InputError
from weathervane.files import replacing, sha256, sync_folder
from weathervane.params import Strict, check
from weathervane.progress import track

DATABASE, ARTIFACTS = "mlflow.db", "mlruns"
LOCATIONS = (  # where MLflow keeps absolute paths
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


class Manifest(Strict):
    """What is in an archive: when it was made (UTC), of the store in which folder, sha256 of each file by its name."""

    made: str
    home: str = Field(pattern="^/")
    files: dict[str, str]


def backup(root: Path, target: Path) -> tuple[int, list[str]]:
    """Write the store to `target`, whole or not at all; how many files, and which places of artifacts that the database
    names lie elsewhere and so are not in it. Runs may go on meanwhile.

    Raises:
        InputError: nothing to back up, a server's store, a file that changed while it was read.
    """
    database = _store(root)
    if target.is_dir():
        raise InputError(f"{target}: a folder: name the file that is to be written")
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} is not there")
    if target.suffix.lower() == ".zip":
        raise InputError(f"{target}: a tar file is written: call it {target.with_suffix('.tar').name}")
    if not database.is_file():
        raise InputError(f"{database}: no such file: nothing was tracked yet, so there is nothing to back up")
    with _work(database.parent, "backup") as work:
        members = {DATABASE: work / DATABASE}
        _snapshot(database, members[DATABASE])
        elsewhere = _elsewhere(members[DATABASE], database.with_name(ARTIFACTS))
        # After the database, so that every artifact that it names is there.
        for folder, _, names in os.walk(database.parent / ARTIFACTS, onerror=_refuse, followlinks=True):
            for path in (Path(folder) / name for name in names):
                members[path.relative_to(database.parent).as_posix()] = path
        with replacing(target, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            files = {name: _add(tar, name, path) for name, path in track(members.items(), "backup", len(members))}
            made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            content = Manifest(made=made, home=str(database.parent), files=files).model_dump_json(indent=1).encode()
            about = tarfile.TarInfo(_manifest_name(content))
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return len(files), elsewhere


def _refuse(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):  # no artifacts here, or a folder that went meanwhile
        return
    raise InputError(
        f"{error.filename}: {error.strerror}: what cannot be read cannot be backed up; nothing was written"
    )


def restore(root: Path, source: Path, force: bool) -> tuple[Manifest, list[Path]]:
    """Put a backup in place; its manifest, and the new names of what stood there before (with `force`).

    All of it is unpacked beside the store and checked before anything is put in place, the database last. A retraining
    that is at work in this clone is waited for.

    Raises:
        InputError: a store is there already (without `force`), a server's store, no room, an archive that is damaged
            or no backup of ours; nothing has changed.
    """
    database = _store(root)
    there = _set_aside(database)
    if there and not force:
        raise InputError(
            f"{' and '.join(path.name for path in there)} would be overwritten: with --force they are kept under "
            "another name"
        )
    with _work(database.parent, "restore") as folder:
        manifest = _unpack(source, folder)
        _move_paths(folder / DATABASE, manifest.home, str(database.parent))
        _end_runs(folder / DATABASE, manifest.made)
        with retrain_lock(root), lock(root, STORE):
            there = _set_aside(database)
            for path, name in there.items():  # the database first, and last: at no moment does one name missing files
                path.replace(name)
            if (folder / ARTIFACTS).exists():
                (folder / ARTIFACTS).replace(database.with_name(ARTIFACTS))
            (folder / DATABASE).replace(database)
            sync_folder(database.parent)
    return manifest, list(there.values())


def _set_aside(database: Path) -> dict[Path, Path]:
    """What is there of a store, and what each of it would be called; SQLite finds its side files by these names."""
    other = f".before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    kinds = ("", "-wal", "-shm", "-journal")
    names = {f"{database.name}{kind}": f"{database.name}{other}{kind}" for kind in kinds}
    names[ARTIFACTS] = ARTIFACTS + other
    return {
        database.with_name(name): database.with_name(names[name]) for name in names if database.with_name(name).exists()
    }


def _store(root: Path) -> Path:
    database = local(uri(root))
    if database is None:
        raise InputError(
            f"MLFLOW_TRACKING_URI {uri(root)}: a server's store is backed up by whoever runs the server: its "
            "database and its artifact root"
        )
    return database


@contextmanager
def _work(home: Path, name: str) -> Iterator[Path]:
    """A temporary folder on the store's own disk."""
    (home / project.WORK).mkdir(parents=True, exist_ok=True)
    with (
        waited_for(lock(home, BACKUP), "another backup, or a restore"),
        tempfile.TemporaryDirectory(prefix=f"{name}-", dir=home / project.WORK) as folder,
    ):
        yield Path(folder)


def _snapshot(database: Path, copy: Path) -> None:
    """A consistent copy of a database that others may be writing to."""
    with opened(database) as live, closing(sqlite3.connect(copy)) as still:
        live.backup(still)


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        block = self.file.read(size)
        self.digest.update(block)
        return block


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Append a file; sha256 of the bytes that were written."""
    try:
        with open(path, "rb") as file:
            entry, reader = tarfile.TarInfo(name), _Hashed(file)
            status = os.fstat(file.fileno())
            entry.size, entry.mtime = status.st_size, status.st_mtime
            tar.addfile(entry, reader)  # type: ignore[arg-type]  # only `read` is asked for
    except OSError as error:
        if error.errno in (None, errno.ENOENT):  # tarfile's own, of a file that became shorter
            raise InputError(f"{path}: changed while it was read: try again") from None
        raise
    return reader.digest.hexdigest()


def _unpack(source: Path, folder: Path) -> Manifest:
    """Every file of the archive into the folder, each checked against the manifest."""
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    size, free = source.stat().st_size, shutil.disk_usage(folder).free
    if size > free:
        raise InputError(f"{source}: {size:,} bytes are needed, {free:,} are free in {folder.parent}")
    names = archives.members(source, bounded=False)  # none of them leaves the folder or is a link
    if not names or len(set(names)) < len(names):
        raise InputError(f"{source}: no backup of ours: it is empty, or names a file twice")
    try:
        with tarfile.open(source) as tar:
            for entry in track(tar, "restore", len(names)):
                tar.extract(entry, folder, filter="data")
        content = (folder / names[-1]).read_bytes()
        sound = names[-1] == _manifest_name(content)
        manifest = check(Manifest, json.loads(content), source) if sound else None
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be unpacked: {error}: nothing was changed") from None
    if manifest is None:
        raise InputError(f"{source}: cut off, damaged, or no backup of ours: its last file is no manifest")
    foreign = [name for name in manifest.files if name != DATABASE and not name.startswith(f"{ARTIFACTS}/")]
    if {*manifest.files, names[-1]} != set(names) or DATABASE not in manifest.files or foreign:
        raise InputError(f"{source}: its files are not those of its manifest: fetch it again, or take another backup")
    for name, digest in manifest.files.items():
        if sha256(folder / name) != digest:
            raise InputError(
                f"{source}: {name} is damaged (its sha256 differs): fetch it again, or take another backup"
            )
    return manifest


def _manifest_name(content: bytes) -> str:
    return f"manifest-{hashlib.sha256(content).hexdigest()}.json"


def _elsewhere(database: Path, artifacts: Path) -> list[str]:
    """The places that are not below the folder `artifacts`: a bucket's, or those of a clone before it was moved."""
    inside = (f"{artifacts}/", f"{artifacts.as_uri()}/", "models:/")  # a source may be the name of a logged model
    used = [place for place in LOCATIONS if place[0] != "experiments"]  # theirs is for runs to come
    with opened(database) as connection:
        rows = [row for table, column in used for row in connection.execute(f"SELECT {column} FROM {table}")]
    return sorted({place for (place,) in rows if place and not place.startswith(inside)})


def _end_runs(database: Path, moment: str) -> None:
    """Runs that were at work when the backup was made ended then (UTC), for this store."""
    with opened(database) as connection, connection:
        connection.execute(
            "UPDATE runs SET status = 'KILLED', end_time = 1000 * strftime('%s', ?) WHERE status = 'RUNNING'", (moment,)
        )


def _move_paths(database: Path, old: str, new: str) -> None:
    """Paths below the old folder, plain or as file: URIs, become the same below the new one."""
    with opened(database) as connection, connection:
        for table, column in LOCATIONS:
            for was, now in ((old, new), (Path(old).as_uri(), Path(new).as_uri())):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                    f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (now, len(was) + 1, was, len(was) + 1, f"{was}/"),
                )
