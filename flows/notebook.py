"""A retraining from a notebook: the flow itself, in the kernel, with its outcome as tables."""

import atexit
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.environment import apply
from flows.server import own_server
from flows.session import ready
from tasks.tracking_read import tracked_root

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
    root, until_the_end = tracked_root(), ExitStack()
    atexit.register(until_the_end.close)
    ready(root, own_server(root, until_the_end), "flows.retrain")
    from flows.retrain import retrain as flow

    summary = flow(list(variants), list(changes), device, seed, data_version)
    return Outcome(summary["decision"], summary["why"], pd.DataFrame(summary["rows"]), summary["parent"])
