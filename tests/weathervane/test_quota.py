"""What a container may use of its machine, from files as Linux has them."""

import math
import os
from pathlib import Path

import pytest

from weathervane import quota
from weathervane.parallel import cores, visible
from weathervane.process import settle


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of control groups; this process is in that of a service."""
    (tmp_path / "fs/system.slice/weathervane.service").mkdir(parents=True)
    (tmp_path / "own").write_text("1:cpu:/\n0::/system.slice/weathervane.service\n")
    monkeypatch.setattr(quota, "GROUPS", tmp_path / "fs")
    monkeypatch.setattr(quota, "OWN", tmp_path / "own")
    return tmp_path / "fs"


def test_without_limits_all_of_it_may_be_used(groups: Path) -> None:
    """Neither where no group says anything nor where they say `max`, or -1, as the older ones."""
    assert quota.processors() == quota.memory() == math.inf and cores() == visible()
    (groups / "system.slice/cpu.max").write_text("max 100000\n")
    (groups / "system.slice/memory.max").write_text("max\n")
    (groups / "cpu").mkdir()
    (groups / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (groups / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert quota.processors() == quota.memory() == math.inf and cores() == visible()


def test_the_tightest_of_the_groups_around_counts(groups: Path) -> None:
    """A service's own limit, that of its slice, and a container's, whichever is least."""
    for place, share, memory in (
        ("system.slice/weathervane.service", "300000 100000", "3000"),
        ("system.slice", "150000 100000", "9000"),
        ("", "400000 100000", "4000"),
    ):
        (groups / place / "cpu.max").write_text(share)
        (groups / place / "memory.max").write_text(memory)
    assert quota.processors() == 1.5 and quota.memory() == 3000


def test_the_older_groups_are_read_too(groups: Path) -> None:
    """As Docker shows them in a container of a machine with control groups of the first generation."""
    for folder, name, text in (
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("memory", "memory.limit_in_bytes", "7000"),
    ):
        (groups / folder).mkdir(exist_ok=True)
        (groups / folder / name).write_text(f"{text}\n")
    assert quota.processors() == 0.5 and quota.memory() == 7000
    assert cores() == 1


def test_torch_starts_as_many_threads_as_may_run(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that has half of one core, one; a person's own setting stands; without a limit torch decides."""
    monkeypatch.setattr("weathervane.process.visible", lambda: 8)
    monkeypatch.setattr("weathervane.parallel.visible", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    settle()
    assert "OMP_NUM_THREADS" not in os.environ
    (groups / "cpu.max").write_text("250000 100000")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    settle()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    monkeypatch.delenv("OMP_NUM_THREADS")
    settle()
    assert os.environ["OMP_NUM_THREADS"] == "3"
