"""Versions of data/raw: which there are, what is in them, what changed from one to the next.

A version is DVC's md5 of the folder. Git's history of data/raw.dvc and MLflow's runs say which versions there were;
DVC's cache holds their bytes. Read without importing DVC or MLflow.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.dvc_lock import RAW_DVC, md5, raw_md5, tracked_dataset, tracked_in
from tasks.git import git_output
from tasks.tags import KINDS, OLDER
from tasks.tracking_read import moment, runs, uri
from weathervane import project
from weathervane.errors import InputError
from weathervane.files import replacing
from weathervane.ledger import FILES, Ledger, Row

CACHE = Path(".dvc/cache/files/md5")
LEFT = project.WORK / "left"  # a file a dataset: the version at which this clone left it for another
NAMED = 4  # classes that a difference names; images of the others are counted


@dataclass(frozen=True)
class Version:
    """A version of data/raw: its md5, when it was first on record (UTC), and by whose record."""

    md5: str
    date: str
    known_by: str


@dataclass(frozen=True)
class Difference:
    """What became of images from one version to another, by sha256; relabelled: (old row, new row)."""

    added: list[Row]
    removed: list[Row]
    relabelled: list[tuple[Row, Row]]

    def __str__(self) -> str:
        """In few words: 12 images added to rain, 1 removed from shine."""
        moved = (f"{old.label} → {new.label}" for old, new in self.relabelled)
        parts = [
            *_counted("added to", (row.label for row in self.added)),
            *_counted("removed from", (row.label for row in self.removed)),
            *_counted("relabelled", moved),
        ]
        if not parts:
            return "the same images"
        count, _, rest = ", ".join(parts).partition(" ")
        return f"{count} image{'' if count == '1' else 's'} {rest}"


def versions(root: Path) -> list[Version]:
    """Every version on record, oldest first; today's is the last."""
    found: dict[str, Version] = {}
    for version in (*_in_git(root), *_in_mlflow(root)):
        if version.md5 not in found or version.date < found[version.md5].date:
            found[version.md5] = version
    today = raw_md5(root)
    ordered = sorted((v for v in found.values() if v.md5 != today), key=lambda version: version.date)
    return [*ordered, found.get(today) or Version(today, "now", RAW_DVC)] if today else ordered


def resolve(root: Path, text: str) -> str:
    """The md5 of the version that a person means: an md5, the beginning of one, or a git revision.

    Raises:
        InputError: none, or more than one, is meant.
    """
    if not text or not text.isprintable():
        raise InputError(f"data version {text!r}: an md5, the beginning of one, or a git revision is expected")
    known = [version.md5 for version in versions(root)]
    close = [one for one in known if one.startswith(text)]
    if len(close) == 1:
        return close[0]
    if len(close) > 1:
        raise InputError(f"data version {text}: matches {len(close)} versions: give more digits")
    if at_revision := _tracked_at(root, text):
        return at_revision
    raise InputError(
        f"data version {text}: not known of the dataset '{tracked_dataset(root)}': 'weathervane data versions' lists "
        "those that are, 'weathervane data gc' what DVC holds of others"
    )


def last_version(root: Path, dataset: str, address: str = "") -> str | None:
    """md5 of the version that a dataset had last, by the project's store or the one of this address and by what was
    noted when this clone left it for another dataset; None if nobody knows of any.

    By the store: that of the newest retraining or cross-validation but those that were given an older one
    (`--data-version`).
    """
    found = [run for run in runs(address or uri(root), dataset, "kind", KINDS) if run.tags.get("data_md5")]
    trained = next((run for run in found if OLDER not in run.tags), None)
    noted = root / LEFT / dataset
    if noted.is_file() and (trained is None or noted.stat().st_mtime * 1000 > trained.started):
        version = noted.read_text(encoding="utf-8")
        if version not in {run.tags["data_md5"] for run in found}:  # else others may have gone on from it
            return version
    return trained.tags["data_md5"] if trained else None


def note_last(root: Path, dataset: str, version: str) -> None:
    """Before another dataset takes its place: this version need not have been trained on, and is found again."""
    with replacing(root / LEFT / dataset) as file:
        file.write(version)


def left_datasets(root: Path) -> list[str]:
    """The datasets that this clone has left for others."""
    return sorted(path.name for path in (root / LEFT).glob("[!.]*"))


def has_bytes(root: Path, version: str) -> bool:
    """True if DVC's cache holds every object of a version."""
    files = _listing(root, version)
    return files is not None and all(_object(root, digest).is_file() for digest in files.values())


def objects(root: Path, version: str) -> set[str]:
    """md5s of the cache objects that a version is made of: its list, and the files on it if the list is there."""
    return {version, *(_listing(root, version) or {}).values()}


def heads(root: Path) -> dict[str, str]:
    """The version at the head of each branch (remote ones, too) and tag that tracks one, by the branch's name."""
    everywhere = ("refs/heads", "refs/tags", "refs/remotes")
    names = git_output(root, "for-each-ref", "--format=%(refname:short)", *everywhere).split()
    tracked = ((name, _tracked_at(root, name)) for name in names)
    return {name: version for name, version in tracked if version}


def committed(root: Path) -> dict[str, str]:
    """Every version that a commit of any branch or tag names, by its md5, with the newest such commit."""
    everywhere = ("HEAD", "--branches", "--tags", "--remotes", "--full-history")
    return {version.md5: version.known_by for version in reversed(_in_git(root, *everywhere))}


def cached(root: Path) -> list[str]:
    """Every version whose list DVC's cache holds, whether or not anything else knows of it."""
    found = (f"{path.parent.name}{path.name}" for path in sorted((root / CACHE).glob("??/*.dir")))
    return [version for version in found if project.LEDGER.name in (_listing(root, version) or {})]


def ledger_of(root: Path, version: str) -> Ledger | None:
    """The ledger of a version, out of DVC's cache; None if it is not there."""
    files = _listing(root, version) or {}
    if not all(name in files and _object(root, files[name]).is_file() for name in FILES):
        return None
    return Ledger.read(root / project.RAW, lambda name: _object(root, files[name]))


def difference(root: Path, old: str, new: str) -> Difference:
    """What changed between two versions (full md5s).

    Raises:
        InputError: the bytes of one of them are not in DVC's cache.
    """
    return between(_present(root, old), _present(root, new))


def between(old: Ledger, new: Ledger) -> Difference:
    """What changed from one ledger to another."""
    before, after = ({row.sha256: row for row in ledger.rows} for ledger in (old, new))
    return Difference(
        added=[row for sha, row in after.items() if sha not in before],
        removed=[row for sha, row in before.items() if sha not in after],
        relabelled=[(row, after[sha]) for sha, row in before.items() if sha in after and after[sha].label != row.label],
    )


def materialise(root: Path, version: str) -> Path:
    """A folder under .weathervane/versions that holds the version as data/raw; the work tree is not touched.

    Every object is checked against its md5 on the way: DVC itself does not notice a flipped bit.

    Raises:
        InputError: an object is missing or damaged; it is named, with the command that mends it.
    """
    home = root / project.VERSIONS / version.removesuffix(".dir")
    raw = home / project.RAW
    if md5(raw) == version:
        return home
    files = _listing(root, version)
    if files is None:
        raise InputError(_missing(version))
    shutil.rmtree(home, ignore_errors=True)
    for name, digest in files.items():
        source, target = _object(root, digest), raw / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_file():
            raise InputError(f"{source.relative_to(root)} ({name}) is not in DVC's cache: run 'dvc fetch' for it")
        shutil.copyfile(source, target)
        if md5(target) != digest:
            raise InputError(damaged(source.relative_to(root), name))
    return home


def damaged(path: Path, name: str) -> str:
    """What to say of a cache object whose bytes are not what its name says."""
    return f"{path} ({name}) is damaged: remove it ('rm -f {path}') and run 'dvc fetch' to bring it from the remote"


def find_damage(root: Path, version: str) -> str | None:
    """What is wrong with the first cache object that is not whole, in words; None if it is missing, or if all are."""
    for name, digest in (_listing(root, version) or {}).items():
        path = _object(root, digest)
        if md5(path) != digest:
            return damaged(path.relative_to(root), name) if path.is_file() else None
    return None


def _present(root: Path, version: str) -> Ledger:
    ledger = ledger_of(root, version)
    if ledger is None:
        raise InputError(_missing(version))
    return ledger


def _missing(version: str) -> str:
    return (
        f"data version {version}: its bytes are not in DVC's cache: run 'dvc fetch --all-commits' if a remote has them"
    )


def _listing(root: Path, version: str) -> dict[str, str] | None:
    path = _object(root, version)
    if not path.is_file():
        return None
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, KeyError, TypeError):
        raise InputError(damaged(path.relative_to(root), "the list of the version's files")) from None


def _object(root: Path, digest: str) -> Path:
    return root / CACHE / digest[:2] / digest[2:]


def _in_git(root: Path, *heads: str) -> list[Version]:
    log = git_output(root, "log", "--format=%H %ct", *heads, "--", RAW_DVC)
    lines = (line.split() for line in log.splitlines())
    found = []
    for commit, seconds in lines:
        text = _raw_dvc_at(root, commit)
        with suppress(InputError):  # history cannot be mended
            if version := _tracked_in(text, commit):
                found.append(Version(version, moment(1000 * int(seconds)), f"commit {commit[:10]}"))
    return found


def _in_mlflow(root: Path) -> list[Version]:
    dataset = tracked_dataset(root)
    found = runs(uri(root), dataset, "kind", ["retraining"]) if dataset else []
    return [
        Version(run.tags["data_md5"], moment(run.started), f"run {run.run_id[:10]}")
        for run in found
        if run.tags.get("data_md5")
    ]


def _tracked_at(root: Path, revision: str) -> str | None:
    """The version at a git revision; None where none is tracked.

    Raises:
        InputError: data/raw.dvc is no DVC file there, such as one with the marks of a conflict; or git fails.
    """
    return _tracked_in(_raw_dvc_at(root, revision), revision)


def _raw_dvc_at(root: Path, revision: str) -> str:
    return git_output(root, "show", f"{revision}:{RAW_DVC}") if not revision.startswith("-") else ""


def _tracked_in(text: str, revision: str) -> str | None:
    if not text:
        return None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    content = None
    with suppress(YAMLError):
        content = YAML(typ="safe", pure=True).load(text)
    return tracked_in(content, f"{RAW_DVC} at {revision}").outs[0].md5


def _counted(what: str, names: Iterable[str]) -> Iterator[str]:
    """What became of how many images, a part for each of the commonest names."""
    common = Counter(sorted(names)).most_common()
    yield from (f"{count} {what} {name}" for name, count in common[:NAMED])
    if rest := common[NAMED:]:
        yield f"{sum(count for _, count in rest)} {what} {len(rest)} more"
