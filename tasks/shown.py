"""What a flow run's page in Prefect shows of its outcome, as an artifact; the record itself is MLflow's."""

import logging

from weathervane.errors import in_brief
from weathervane.progress import say

BRIEF = 200  # characters of the line in a list of artifacts


def show(kind: str, dataset: str, text: str, why: str) -> None:
    """Markdown, under a key that is the same for all runs of a kind and a dataset; without a flow run nothing."""
    from prefect import runtime
    from prefect.artifacts import create_markdown_artifact

    if not runtime.flow_run.id:
        return
    try:
        create_markdown_artifact(text, key=f"{kind}-{dataset.replace('_', '-')}", description=why[:BRIEF])
    except Exception as error:
        say(f"the {kind} is missing among Prefect's artifacts: {in_brief(error)}", logging.WARNING)
