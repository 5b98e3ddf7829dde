"""What git says of the data is true of the code that stands beside it."""

from pathlib import Path

from tasks.dvc_lock import md5, raw_md5, tracked_dataset
from weathervane import params

ROOT = Path(__file__).parents[1]


def test_the_lock_belongs_to_this_code() -> None:
    """dvc.lock was made by the modules and parameters in git: if this fails, run `make retrain` and commit dvc.lock."""
    locked = params.read(ROOT / "dvc.lock")["stages"]
    assert set(locked) == set(params.read(ROOT / "dvc.yaml")["stages"])
    for stage in locked.values():
        code = [dep for dep in stage["deps"] if not dep["path"].startswith("data/")]
        assert code
        assert [dep["path"] for dep in code if md5(ROOT / dep["path"]) != dep["md5"]] == []
        for path, recorded in stage.get("params", {}).items():
            assert params.read(ROOT / path) == recorded


def test_a_clone_starts_with_the_synthetic_dataset() -> None:
    """data/raw.dvc tracks the dataset that params/ingest.yaml names, and prepare was run on that version of it."""
    prepared = params.read(ROOT / "dvc.lock")["stages"]["prepare"]["deps"]
    assert next(dep["md5"] for dep in prepared if dep["path"] == "data/raw") == raw_md5(ROOT)
    assert tracked_dataset(ROOT) == params.read(ROOT / "params/ingest.yaml")["dataset"] == "weather-synthetic"
