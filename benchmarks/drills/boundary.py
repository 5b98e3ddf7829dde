"""Retrainings that are killed with SIGKILL at the boundary of a stage: fault 28.

`python -m benchmarks.drills.boundary` kills one before and one after each stage, starts it again, and compares what
MLflow, DVC and Prefect hold with what a retraining that was never killed leaves. With a stage's name and `before` or
`after`, then `weathervane`'s own arguments, it is the command that dies there.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

STAGES = {
    "ingest": "flows.retrain_command.ingest_and_record",
    "prepare": "flows.session.prepare_and_record",
    "open": "flows.retrain.open_retraining",
    "open variant": "flows.retrain.open_variant",
    "augment": "flows.variant.augment",
    "train": "flows.variant.train",
    "evaluate": "flows.variant.evaluate",
    "register": "flows.retrain.register",
    "report": "flows.retrain.report",
    "close": "flows.retrain.close_retraining",
}


def found(stage: str) -> tuple[Any, str, Callable[..., Any]]:
    """Where a stage is called from, by which name, and what it is."""
    from importlib import import_module

    from flows.environment import apply

    apply()
    name, _, attribute = STAGES[stage].rpartition(".")
    module = import_module(name)
    return module, attribute, getattr(module, attribute)


def deadly(stage: str, when: str) -> None:
    """Have this process die where the stage begins or ends."""
    module, attribute, real = found(stage)

    def dies(*arguments: Any, **named: Any) -> None:
        if when == "after":
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, attribute, dies)


def main() -> None:
    """The drill by hand, or the command that dies."""
    if len(sys.argv) > 3:
        from flows.cli import main as command

        deadly(*sys.argv[1:3])
        sys.argv[1:3] = []
        command()
        return
    import subprocess

    arguments = ["pytest", "-m", "drill", "tests/flows/test_survival.py", "-k", "boundary", "-s", "--faults", "full"]
    sys.exit(subprocess.call([sys.executable, "-m", *arguments]))


if __name__ == "__main__":
    main()
