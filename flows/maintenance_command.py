"""`weathervane clean`, `backup`, `restore`, `data gc`, `runs clean`. What removes shows first, and waits for --yes."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from rich.filesize import decimal

from flows.server import own_server
from tasks import backup as store
from tasks import data_gc, retention
from tasks.tracking_read import check_server, tracked_root, uri
from weathervane import project
from weathervane.progress import say, tabulate


def clean(older_than: str | None, yes: bool) -> int:
    """Show or remove what may go; the exit status: 1 if something could not be removed."""
    root = project.root()
    older = retention.limits(root, older_than)
    check_server(uri(root))
    found, failures = retention.clean(root, older) if yes else (retention.survey(root, older), [])
    counts, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in found.removable:
        counts[one.what, one.why] += 1
        sizes[one.what, one.why] += one.bytes
    if counts:
        rows = [[what, f"{count:,}", decimal(sizes[what, why]), why] for (what, why), count in counts.items()]
        tabulate(["what", "how many", "bytes", "why it may go"], rows)
    for why, count in found.kept.items():
        say(f"old enough, but kept: {_many(count, 'run')} {why}")
    for failure in failures:
        say(f"not removed: {failure}: the next clean goes on with it")
    what = f"{_many(len(found.removable), 'thing')}, {decimal(sum(sizes.values()))}" if counts else ""
    _conclude(yes, f"{len(found.removable) - len(failures):,} of {what}" if failures else what)
    return 1 if failures else 0


def backup(file: Path) -> None:
    """Write mlflow.db and mlruns/ to a tar file."""
    root = project.root()
    count, elsewhere = store.backup(root, file)
    say(
        f"{file}: {_many(count, 'file')}, {decimal(file.stat().st_size)}; 'weathervane restore {file}' brings them back"
    )
    if elsewhere:
        places = f"{_many(len(elsewhere), 'place')} of artifacts that mlflow.db names"
        say(f"not in it: {places}, the first is {elsewhere[0]}")


def restore(file: Path, force: bool) -> None:
    """Put a backup in place."""
    root = project.root()
    manifest, aside = store.restore(root, file, force)
    for path in aside:
        say(f"set aside: {path.name}; remove it once all is well")
    say(f"restored: {_many(len(manifest.files), 'file')} as they were on {manifest.made} UTC")


def collect_data(yes: bool, heads_only: bool) -> None:
    """Show who needs which version of the data; remove from DVC's cache what nobody does."""
    root = tracked_root()
    found = data_gc.collect(root, heads_only) if yes else data_gc.census(root, heads_only)
    rows = []
    for one in found.versions:
        places = ["yes" if one.cache else "no", {None: "none set", True: "yes", False: "no"}[one.remote]]
        rows.append([one.md5[:12], one.holds or "unknown", *places, ", ".join(one.needed_by) or "nobody"])
    tabulate(["data version", "what", "in the cache", "in the remote", "needed by"], rows)
    for one in found.bereft:
        say(f"lost: the data {one.md5} of {', '.join(one.models)}: neither DVC's cache nor a remote has all of it")
    for one in found.endangered:
        say(f"only here: the data {one.md5} of {', '.join(one.models)}: no branch or tag names it for 'dvc gc'")
    what = f"{_many(len(found.unneeded), 'object')} of DVC's cache that nobody needs"
    _conclude(yes, f"{what}, {decimal(sum(found.unneeded.values()))}" if found.unneeded else "")


def end_dead() -> None:
    """End the runs whose process is gone, in MLflow and in Prefect, with the reason."""
    root = tracked_root()
    with ExitStack() as stack:
        if server := own_server(root, stack):
            server.wait()
        from tasks.dead_runs import end_dead_runs

        if not end_dead_runs.fn(root):
            say("no run is dead")


def _conclude(yes: bool, what: str) -> None:
    if not what:
        say("nothing to remove")
    else:
        say(f"removed: {what}" if yes else f"{what}: nothing is removed yet: --yes removes it")


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
