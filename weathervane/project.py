"""Where things stand: paths that several modules go to."""

import os
from pathlib import Path

from weathervane.errors import InputError


def root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (default: the working one) upwards, with `dvc.yaml` and `params/`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params").is_dir():
            return folder
    raise InputError(f"{here} is not inside a Weathervane project (no dvc.yaml beside params/): cd into the clone")


RAW = Path("data/raw")
LEDGER = RAW / "ledger.csv"
PREPARED = Path("data/prepared")
WORK = Path(".weathervane")
STAGING = WORK / "ingest"  # what an ingest that runs, or was killed, has found so far
READY = WORK / "ingested"  # what a finished ingest is about to put into its place
EXAMINED = WORK / "examined.sqlite"
QUARANTINE = WORK / "quarantine"
TRAINING = WORK / "training"
VERSIONS = WORK / "versions"
DOWNLOADS = WORK / "downloads"
LOCKS = WORK / "locks"
LOGS = WORK / "logs"
SERVERS = Path("servers")  # the stores of 'weathervane up'; not to be deleted


def check_writable(top: Path) -> None:
    """Before hours of work: whatever a retraining writes to can be written to.

    Raises:
        InputError: one of the folders cannot, by its permissions or because the file system is read-only.
    """
    for place in (top, top / "data", top / RAW, top / PREPARED, top / WORK, top / TRAINING, top / LOCKS):
        if place.exists() and not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"{place}: cannot be written to: give this user the right to ('chmod u+w', 'chown')")
