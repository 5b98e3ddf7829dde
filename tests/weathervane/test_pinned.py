"""Same seed, same loss, to the last digit: what a refactor of the training proves itself by.

`WEATHERVANE_PIN=1 pytest tests/weathervane/test_pinned.py` writes the losses of this machine's kind anew.
"""

import json
import os
import platform
from pathlib import Path

import pytest
import torch

from tests.conftest import fresh
from tests.skies import rendered
from weathervane import variant
from weathervane.device import has_bfloat16
from weathervane.fit import fit
from weathervane.prepare import Prepare
from weathervane.store import Store

ROOT = Path(__file__).parents[2]
PINNED = Path(__file__).with_name("pinned_losses.json")
EPOCHS = 3


def kind_of_machine() -> str:
    """What the last digit depends on: kernels are chosen by the processor, and change with the version."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    vendor = next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), platform.system())
    capability = torch.backends.cpu.get_cpu_capability()
    lower = " bfloat16" if has_bfloat16("cpu") else ""
    return f"{platform.machine()} {vendor} {capability}{lower} torch {torch.__version__.split('+')[0]}"


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """4 x 15 rendered skies at 64 pixels."""
    root = rendered(tmp_path_factory.mktemp("skies"), 15, Prepare(image_size=64, shard=4096), folds=3)
    return Store(root / "data/prepared")


@pytest.mark.parametrize("name", variant.names(ROOT))
def test_the_losses_of_the_default_variants(name: str, skies: Store, tmp_path: Path) -> None:
    """Three epochs of every variant in params/models (from fresh weights, where it has others) on 64 pixels, one
    thread, seed 0: train and validation loss are the pinned ones, bit for bit, on the kinds of machine pinned."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chosen = variant.load(ROOT, name, {"train.epochs": EPOCHS, "size": skies.size} | fresh(name))
        fit(name, chosen, skies, tmp_path, device=torch.device("cpu"))
    finally:
        torch.set_num_threads(before)
    lines = [json.loads(line)["metrics"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [[line[key].hex() for key in ("train_loss", "val_loss")] for line in lines]
    pinned = json.loads(PINNED.read_text()) if PINNED.is_file() else {}
    here = pinned.setdefault(kind_of_machine(), {})
    if os.environ.get("WEATHERVANE_PIN"):
        here[name] = losses
        PINNED.write_text(json.dumps(pinned, indent=1, sort_keys=True) + "\n")
    if name not in here:
        pytest.skip(
            f"no losses are pinned for {name} on {kind_of_machine()}: run with WEATHERVANE_PIN=1 before a refactor"
        )
    assert losses == here[name]
