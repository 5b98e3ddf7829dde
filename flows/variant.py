"""What is done with one variant, wherever it is trained."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from tasks.augment import augment
from tasks.evaluate import evaluate
from tasks.plan import Candidate, Plan, Result
from tasks.train import How, drop_checkpoints, train
from weathervane.errors import in_brief
from weathervane.progress import about, say


def train_and_evaluate(root: Path, plan: Plan, candidate: Candidate, run: str, how: How) -> Result:
    """Its steps, for the MLflow run `run`; the sheet is drawn while the training's process starts."""
    with about(mlflow_run=run), ThreadPoolExecutor(1) as beside:
        sheet = beside.submit(copy_context().run, augment, root, plan, candidate, run)
        folder = train(root, plan, candidate, run, how)
        try:
            sheet.result()
        except Exception as error:  # a picture decides nothing
            say(f"the augmentation's contact sheet is missing: {in_brief(error)}", logging.WARNING)
        result: Result = evaluate(root, plan, candidate, run, folder)
    drop_checkpoints(root, candidate)
    return result
