"""The step `report`: the data report, a DVC stage; a retraining's copy of it tells suspected label errors, too."""

import tempfile
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.data import report_and_record
from tasks.retries import RETRY
from tasks.step import step
from weathervane import project
from weathervane.errors import InputError
from weathervane.gate import SUSPECTED
from weathervane.progress import say


@step(name="report", **RETRY)
def report(root: Path, parent: str, model_run: str | None) -> dict[str, float]:
    """Bring data/prepared/report.html up to date and log it to `parent`.

    With what the model of `model_run` makes suspects, and a table of them; their share of all labels becomes a metric
    of that run, and is returned as such: {"data/suspected": 0-1}, or nothing where no model could look.
    """
    client, plain, found = tracking.client(root), report_and_record(root), dict[str, float]()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            files = [plain]
            if model_run:
                files, found = _with_suspects(root, client, model_run, work)
                tracking.log(root, model_run, metrics=found)
        except InputError as error:
            say(f"report: suspected label errors are left out: {error}")
        for file in files:
            client.log_artifact(parent, str(file), "data")
    return found


def _with_suspects(root: Path, client: Any, model_run: str, work: Path) -> tuple[list[Path], dict[str, float]]:
    """Make report.html and suspects.csv in `work`; both, and the share of suspects as a metric.

    Raises:
        InputError: the run's model cannot be used, or the data changed meanwhile.
    """
    from weathervane.ledger import Ledger
    from weathervane.model import Model
    from weathervane.report import REPORT, page
    from weathervane.store import Store
    from weathervane.suspects import suspects

    if not client.list_artifacts(model_run, "model"):
        raise InputError(f"run {model_run} no longer holds its model")
    model = Model.load(Path(client.download_artifacts(model_run, "model", str(work))))
    table = suspects(model, Store(root / project.PREPARED))
    names = {row.sha256: row.name for row in Ledger.read(root / project.RAW).rows}
    table.insert(3, "name", table["sha256"].map(names))
    files = [work / REPORT, work / "suspects.csv"]
    files[0].write_text(page(root, table), encoding="utf-8")
    table.to_csv(files[1], index=False, float_format="%.4f")
    where = "data/suspects.csv of the retraining's run"
    say(f"report: {len(table)} of {len(names):,} labels are suspected of being wrong: {where}")
    return files, {SUSPECTED: len(table) / len(names)}
