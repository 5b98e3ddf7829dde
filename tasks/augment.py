"""The step `augment`: a before/after contact sheet of the variant's policy, logged to its run."""

import tempfile
from pathlib import Path

from tasks import tracking
from tasks.plan import Candidate, Plan
from tasks.retries import RETRY
from tasks.step import step

IMAGES, DRAWS = 6, 6


@step(name="augment", task_run_name="augment {candidate.name}", **RETRY)
def augment(root: Path, plan: Plan, candidate: Candidate, run: str) -> None:
    """Draw the sheet that shows what this variant's training will see."""
    import torch

    from weathervane.augment import augment as change
    from weathervane.changes import chances, changes
    from weathervane.device import resident, to_float
    from weathervane.pictures.photographs import contact_sheet
    from weathervane.store import Store

    store = Store(plan.prepared)
    rows = store.part("train")
    pixels = store.pixels(rows[:: max(1, len(rows) // IMAGES)][:IMAGES])
    images = resident(pixels, candidate.variant.size, torch.device("cpu"))
    generator = torch.Generator().manual_seed(plan.seed)
    policy = candidate.variant.augment
    drawn = changes(chances(DRAWS, len(images), policy, generator), policy)
    draws = [change(to_float(images), policy, one) for one in drawn]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "augmentation.png"
        after = [(draw * 255).round().byte().permute(0, 2, 3, 1).numpy() for draw in draws]
        contact_sheet(images.permute(0, 2, 3, 1).numpy(), after, f"{candidate.name}: augmentation", path)
        tracking.client(root).log_artifact(run, str(path))
