"""DVC's part of a data step: is it stale, can the cache or the remote help, record what came out.

DVC's repository lock is never held while a step works, so that `dvc status` and other stages stay usable.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.data_versions import CACHE, has_bytes
from tasks.dvc_lock import DVC_LOCK, md5, raw_md5, stale_because
from tasks.retries import patiently
from weathervane.errors import InputError
from weathervane.files import replacing

if TYPE_CHECKING:
    from dvc.repo import Repo

T = TypeVar("T")
SITE = Path(".dvc/tmp/site-cache")
PATIENCE = 120.0  # seconds to wait for another process that holds DVC's lock


def add(root: Path, target: str, about: dict[str, str]) -> str:
    """Track `target` as it stands now, with `about` in its .dvc file; its md5.

    Raises:
        InputError: the cache cannot take it; nothing is recorded.
    """
    with _open(root) as repo, _only_what_is_kept(root / f"{target}.dvc") as kept:
        (stage,) = _patiently(lambda: repo.add([str(root / target)]))
        kept(stage)
        if stage.meta != about:
            stage.meta = about
            stage.dump()
        return str(stage.outs[0].hash_info.value)


def push(root: Path) -> None:
    """Bring what data/raw.dvc and dvc.lock name to the default remote.

    Raises:
        InputError: no remote, or it does not take it.
    """
    with _open(root) as repo, _told_of_the_remote():
        _patiently(lambda: repo.push())


def fetch(root: Path, target: str) -> bool:
    """Bring a missing tracked folder back from the cache or the remote; False if neither has it.

    Raises:
        InputError: the remote does not answer.
    """
    from dvc.exceptions import DvcException

    version = str(raw_md5(root))
    if not has_bytes(root, version):
        fetch_version(root, version)
    with _open(root) as repo:
        try:
            _patiently(lambda: repo.checkout([str(root / target)]))
        except (DvcException, ImportError):  # the latter where the remote's kind wants a package that is not there
            return False
    if md5(root / target) == version:
        return True
    shutil.rmtree(root / target, ignore_errors=True)  # DVC checks out damaged objects without a word
    return False


def fetch_version(root: Path, version: str) -> None:
    """Bring a folder of this md5 from the default remote to the cache, as far as the remote has it.

    Raises:
        InputError: the remote does not answer.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    with _open(root) as repo, _told_of_the_remote():
        if repo.config["core"].get("remote"):
            remote, cache = repo.cloud.get_remote_odb(), repo.cache.local
            found = [HashInfo("md5", version)]  # not `cloud.pull`: of a folder it brings the list and none of the files
            with suppress(FileNotFoundError):  # it does not know that version
                _patiently(lambda: repo.cloud.transfer(remote, cache, found, shallow=False, verify=remote.verify))


def push_version(root: Path, version: str) -> None:
    """Bring a folder of this md5 from the cache to the default remote.

    Raises:
        InputError: there is no remote, or it does not take it.
    """
    from dvc_data.hashfile.hash_info import HashInfo

    with _open(root) as repo, _told_of_the_remote():
        remote, cache = repo.cloud.get_remote_odb(), repo.cache.local
        found = [HashInfo("md5", version)]
        done = _patiently(lambda: repo.cloud.transfer(cache, remote, found, shallow=False))
        if done.failed:
            raise InputError(f"DVC's remote did not take {len(done.failed)} of the files of {version}")


@contextmanager
def _told_of_the_remote() -> Iterator[None]:
    """What goes wrong with the default remote, of which each kind has errors of its own, in words."""
    from dvc.config import NoRemoteError

    try:
        yield
    except NoRemoteError:
        raise InputError(
            "DVC has no remote, from which other machines get the data: 'dvc remote add -d NAME URL'"
        ) from None
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"DVC's remote: {' '.join(str(error).split())}: see 'dvc remote list'") from None


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Nobody else works on the DVC repository meanwhile."""
    with _open(root) as repo:
        _patiently(repo.lock.lock)
        try:
            yield
        finally:
            repo.lock.unlock()


def used(root: Path) -> set[str]:
    """md5s of all that the work tree and the heads of branches and tags track, the files of folders included.

    Raises:
        InputError: DVC cannot read one of them, or its cache is not the project's own.
    """
    from dvc.exceptions import DvcException

    with _open(root) as repo:
        if Path(repo.cache.local.path).resolve() != (root / CACHE).resolve():
            raise InputError(f"{repo.cache.local.path}: a cache that other projects may share: see 'dvc gc --projects'")
        logging.getLogger("dvc").setLevel(logging.ERROR)  # what has never run has nothing to lose
        try:
            found = _patiently(lambda: repo.used_objs(all_branches=True, all_tags=True, force=True))
        except DvcException as error:
            raise InputError(f"git's history cannot be read whole, so nothing is removed: {error}") from None
    return {str(info.value) for infos in found.values() for info in infos}


def in_remote(root: Path, digests: list[str]) -> set[str] | None:
    """Which of the objects the default remote holds; None where there is no remote.

    Raises:
        InputError: the remote does not answer.
    """
    with _open(root) as repo:
        if not repo.config["core"].get("remote"):
            return None
        with _told_of_the_remote():
            return set(repo.cloud.get_remote_odb().oids_exist(digests))


def bring_up_to_date(root: Path, stage: str, work: Callable[[], object]) -> str | None:
    """Make a stage's outputs current, as `dvc repro` would, with `work` as its function.

    Returns why it had to be done; None if nothing was to do.

    Raises:
        InputError: a dependency changed while the step worked, or the cache cannot take the outputs; nothing is
            recorded.
    """
    reason = stale_because(root, stage)
    if reason is None:
        return None
    with _open(root) as repo:
        (node,) = repo.stage.collect(f"{root / 'dvc.yaml'}:{stage}")
        before = {dep.def_path: md5(root / dep.def_path) for dep in node.deps}
        _patiently(lambda: _clear(repo, node))
        restored = _restored(repo, node)
        if not restored:
            work()
        changed = [path for path, digest in before.items() if md5(root / path) != digest]
        if changed:
            raise InputError(f"{', '.join(changed)} changed while {stage} ran: run it again when nobody writes there")
        with _only_what_is_kept(root / DVC_LOCK) as kept:
            _patiently(lambda: repo.commit(node.addressing, force=True))
            kept(repo.stage.collect(node.addressing)[0])
    return f"{reason}; found in DVC's cache" if restored else reason


@contextmanager
def _only_what_is_kept(record: Path) -> Iterator[Callable[[Any], None]]:
    """Yields a check that the cache has a stage's outputs: what DVC cannot copy it only logs, and records all the same.

    The record is as it was before if the block fails.
    """
    before = record.read_bytes() if record.is_file() else None

    def kept(node: Any) -> None:
        for out in node.outs:
            if out.changed_cache():
                free = shutil.disk_usage(out.cache.path).free
                raise InputError(
                    f"{out.cache.path}: DVC could not copy all of {out.def_path} there: up to {out.meta.size or 0:,} "
                    f"bytes are needed, {free:,} are free: make room and run it again; nothing is recorded"
                )

    try:
        yield kept
    except BaseException:
        if before is None:
            record.unlink(missing_ok=True)
        else:
            with replacing(record, "wb") as file:
                file.write(before)
        raise


def _clear(repo: "Repo", node: Any) -> None:
    with repo.lock:
        node.remove_outs(ignore_remove=False, force=True)


def _restored(repo: "Repo", node: Any) -> bool:
    def restore() -> None:
        with repo.lock:
            repo.stage_cache.restore(node, pull=bool(repo.config["core"].get("remote")))

    try:
        _patiently(restore)
    except InputError:
        raise
    except Exception:  # neither has it, or the remote cannot be asked: it can be made
        return False
    return True


def _open(root: Path) -> "Repo":
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # its progress is told in our own words
    # By default /var/tmp/dvc, where anybody may write, and what DVC keeps there it unpickles.
    os.environ.setdefault("DVC_SITE_CACHE_DIR", str(root / SITE))
    try:
        repo = Repo(str(root))
        repo.scm_context.quiet = True  # no hints about git: who commits, and when, is the person's
        return repo
    except NotDvcRepoError:
        raise InputError(f"{root}: no DVC repository: run 'dvc init' there") from None


def _patiently(work: Callable[[], T]) -> T:
    """Another process may hold DVC's lock for a moment.

    Raises:
        InputError: it holds it for longer than PATIENCE.
    """
    from dvc.lock import LockError

    whom = "another process that works on this DVC repository"
    try:
        return patiently(work, lambda error: isinstance(error, LockError), whom, PATIENCE)
    except LockError:
        raise InputError(
            f"another process has worked on this DVC repository for {PATIENCE:g} s: wait for it, or end it"
        ) from None
