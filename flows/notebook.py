"""A retraining from a notebook: the flow itself, in the kernel, with its outcome as tables."""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.environment import apply
from flows.server import OWN, LocalServer, check, configured
from tasks.tracking_read import check_server, uri
from weathervane import project

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """What a retraining came to."""

    decision: str  # promoted, not promoted, unchanged
    why: str
    table: "pd.DataFrame"  # a row a variant; empty where nothing was to be done
    run: str | None  # its MLflow run


def retrain(
    variants: Sequence[str] = (),
    changes: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    data_version: str = "",
) -> Outcome:
    """The flow `retrain`, whose arguments these are; on the configured servers, else on our own until the kernel ends.

    Raises:
        InputError: bad input, or a server that does not answer.
        VariantsFailed: some variants could not be trained.
    """
    import pandas as pd

    apply()
    check_server(uri(project.root()))
    _use_a_server()
    from flows.retrain import retrain as flow

    summary = flow(list(variants), list(changes), device, seed, data_version)
    return Outcome(summary["decision"], summary["why"], pd.DataFrame(summary["rows"]), summary["parent"])


def _use_a_server() -> None:
    """Prefect reads where its server is once, when it is imported: so one of our own stays for the whole session."""
    if address := configured():
        if OWN not in os.environ:
            check(address)
        return
    server = LocalServer.start(project.root() / project.LOGS / "prefect-server.log")
    atexit.register(server.stop)
    os.environ |= {"PREFECT_API_URL": server.url, OWN: "1"}
    server.wait()
