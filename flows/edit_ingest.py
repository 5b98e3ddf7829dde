"""`--source` and `--dataset`: the edit of params/ingest.yaml that they stand for."""

import difflib
import io
import os
from pathlib import Path

from tasks.data_versions import last_version, ledger_of
from weathervane import params
from weathervane.errors import InputError
from weathervane.ingest import Ingest
from weathervane.sources import Local, Synthetic, named

SYNTHETIC_DATASET = "weather-synthetic"


def edited(path: Path, root: Path, source: str | None, dataset: str | None) -> str:
    """The file's text with the source and the dataset's name put in, comments kept, and checked.

    Raises:
        InputError: the source is not there, or the result is no valid params file.
    """
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 110
    text = path.read_text(encoding="utf-8")
    content = yaml.load(text)
    if source is not None:
        wanted = named(from_root(source, root))
        if isinstance(wanted, Local):
            wanted.place(root)
        sources = [wanted.model_dump(exclude_defaults=True)]
        if content["sources"] != sources:
            content["sources"] = sources
            if isinstance(wanted, Synthetic):
                content["dataset"] = SYNTHETIC_DATASET
            elif content["dataset"] == SYNTHETIC_DATASET:
                content["dataset"] = "weather"
    elif dataset not in (None, content["dataset"]):
        _refuse_foreign_sources(root, dataset, params.check(Ingest, content, path))
    if dataset is not None:
        content["dataset"] = dataset
    params.check(Ingest, content, "--dataset" if dataset else path)
    if content == yaml.load(text):
        return text
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()


def _refuse_foreign_sources(root: Path, dataset: str, now: Ingest) -> None:
    """A dataset that was there before is gone back to with its own sources, as far as their names tell."""
    last = last_version(root, dataset)
    ledger = ledger_of(root, last) if last else None
    known = {row.source for row in ledger.rows} if ledger else set()
    if last and (foreign := [source.title for source in now.sources if source.title not in known]):
        raise InputError(
            f"--dataset {dataset}: no image of its last version is known to come from {', '.join(foreign)}, of which "
            f"params/ingest.yaml has those of '{now.dataset}': name its own source, too (--source)"
        )


def difference(before: str, after: str, name: str) -> str:
    """A unified diff without context, for the person to see."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, n=0, lineterm="")
    return "\n".join(lines)


def from_root(source: str, root: Path) -> str:
    """A path that the person gave from where they stand, as the params file spells it: from the root."""
    if (
        source in ("synthetic", "mendeley")
        or source.startswith(("/", "~"))
        or "\0" in source
        or not os.access(source, os.F_OK)
    ):
        return source
    path = Path(source)
    return os.path.relpath(path.parent.resolve() / path.name, root)  # a link stays one: it may move on
