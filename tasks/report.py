"""The step `report`: the data report, a DVC stage; a retraining's copy of it tells suspected label errors, too."""

import tempfile
from pathlib import Path
from typing import Any

from tasks import tracking
from tasks.data import report_and_record
from tasks.momentary import RETRY
from tasks.step import step
from weathervane import project
from weathervane.errors import InputError
from weathervane.progress import say


@step(name="report", **RETRY)
def report(root: Path, parent: str, model_run: str | None) -> None:
    """Bring data/prepared/report.html up to date and log it to `parent`.

    With what the model of `model_run` makes suspects, and a table of them; what was decided stands without it.
    """
    client, plain = tracking.client(root), report_and_record(root)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            files = _with_suspects(root, client, model_run, work) if model_run else [plain]
        except InputError as error:
            say(f"report: suspected label errors are left out: {error}")
            files = [plain]
        for file in files:
            client.log_artifact(parent, str(file), "data")


def _with_suspects(root: Path, client: Any, model_run: str, work: Path) -> list[Path]:
    """Report.html and suspects.csv, made in `work`.

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
    say(f"report: {len(table)} of {len(names):,} labels are suspected of being wrong")
    return files
