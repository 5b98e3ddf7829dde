"""`weathervane data`: look at a source before it is taken in, and at the versions of what was."""

from collections import Counter

from flows.edit_ingest import SYNTHETIC_DATASET, from_root
from tasks.data import INGEST
from tasks.data_versions import difference, ledger_of, resolve, versions
from weathervane import project
from weathervane.ingest import Ingest, borrowed, inspect
from weathervane.ledger import Ledger, Quarantined, Row
from weathervane.params import load
from weathervane.progress import say, tabulate
from weathervane.sorting import Report
from weathervane.sources import named
from weathervane.words import by_class

SHOWN = 20  # lines of a list before "and n more"


def check(source: str) -> bool:
    """Print what an ingest of the source would say of its files; whether it would take them in, beside what the dataset
    has already, or as a new one where it has nothing. Changes nothing."""
    root = project.root()
    params, held = load(Ingest, root / INGEST), Ledger.read(root / project.RAW)
    asked = named(from_root(source, root)), params, root
    joins = held.rows and held.dataset == params.dataset != SYNTHETIC_DATASET
    with borrowed(root) as record:
        report, refusal = inspect(*asked, Ledger(root / project.RAW), record)
        joined, hindrance = inspect(*asked, held, record) if joins else (report, refusal)
    _table(report)
    _list("quarantined", _by_folder(report.quarantined))
    _list("duplicates", [f"{name!r} of {of!r}" for name, of in report.duplicates])
    sizes = [size for size in Counter(row.group for row in report.accepted).values() if size > 1]
    said = f"{len(sizes):,} groups of {sum(sizes):,} images, the largest of {max(sizes)}" if sizes else "none"
    say(f"near-duplicates: {said}")
    for group, size in report.large_groups.items():
        say(f"  group {group} has {size} images: look at it before you trust the split")
    for note in joined.notes:
        say(f"note: {note}")
    say(f"as a dataset of its own it would be {f'refused: {refusal}' if refusal else 'taken in'}")
    if joins:
        fate = (
            f"refused: {hindrance}" if hindrance else f"taken in: {len(joined.accepted):,} new, {joined.known:,} known"
        )
        say(f"beside the {len(held.rows):,} images of '{held.dataset}' it would be {fate}")
    return not hindrance


def list_versions() -> None:
    """Print every version of data/raw on record: md5, date, images a class, what changed."""
    root = project.root()
    before = dict[str, str]()  # dataset → the version before this one
    for version in versions(root):
        ledger = ledger_of(root, version.md5)
        say(f"{version.md5}  {version.date}  {version.known_by}")
        if ledger is None:
            say("  its bytes are not in DVC's cache: 'dvc fetch --all-commits' brings them, if a remote has them")
        else:
            earlier = before.get(ledger.dataset)
            changed = f"; {difference(root, earlier, version.md5)}" if earlier else ""
            say(f"  {ledger.dataset}: {len(ledger.rows):,} images ({by_class(ledger.counts())}){changed}")
            before[ledger.dataset] = version.md5


def show_difference(old: str, new: str) -> None:
    """Print what was added, removed and relabelled from one version to another."""
    root = project.root()
    found = difference(root, resolve(root, old), resolve(root, new))
    say(str(found))
    _list("added", [_line(row) for row in found.added])
    _list("removed", [_line(row) for row in found.removed])
    _list("relabelled", [f"{_line(was)} → {now.label}" for was, now in found.relabelled])


def _table(report: Report) -> None:
    rows, notes = [], dict[str, list[str]]()
    for row in report.accepted:
        notes.setdefault(row.label, []).append(row.note)
    for label, own in sorted(notes.items()):
        counts = Counter(note for several in own for note in several.split("; ") if note)
        told = ", ".join(f"{n} {note}" for note, n in counts.items())
        rows.append([f"accepted: {label}", f"{len(own):,}", told])
    rows.append(["duplicate of another", f"{len(report.duplicates):,}", "exact copies, recorded once"])
    for reason, count in Counter(bad.reason for bad in report.quarantined).items():
        rows.append([f"quarantined: {reason}", f"{count:,}", ""])
    rows.append(["ignored", f"{len(report.ignored):,}", "what systems leave behind, and texts"])
    rows.append(["all files", f"{report.files:,}", ""])
    tabulate(["what became of them", "files", "notes"], rows)


def _by_folder(quarantined: list[Quarantined]) -> list[str]:
    """A line a file, or one for all files of a folder that have one reason."""
    alike: dict[tuple[str, str], list[str]] = {}
    for bad in quarantined:
        alike.setdefault((bad.name.rpartition("/")[0], f"{bad.reason}: {bad.detail}"), []).append(bad.name)
    return [
        f"{names[0]!r}{f' and {len(names) - 1:,} more beside it' if len(names) > 1 else ''}: {why}"
        for (_, why), names in alike.items()
    ]


def _list(what: str, lines: list[str]) -> None:
    if lines:
        say(f"{what}:")
        for line in lines[:SHOWN]:
            say(f"  {line}")
        if len(lines) > SHOWN:
            say(f"  and {len(lines) - SHOWN:,} more")


def _line(row: Row) -> str:
    return f"{row.sha256[:12]} {row.label} {row.name!r} from {row.source}"
