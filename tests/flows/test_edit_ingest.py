"""What `--source` and `--dataset` make of params/ingest.yaml."""

from pathlib import Path

import pytest

from flows.edit_ingest import edited
from tests.conftest import ROOT
from weathervane.params import read


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """The project's own file, in a folder that has two sources beside it."""
    for name in ("one", "other"):
        (tmp_path / name / "rain").mkdir(parents=True)
    path = tmp_path / "ingest.yaml"
    path.write_text((ROOT / "params/ingest.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return path


def test_a_new_source_keeps_the_datasets_name(params: Path) -> None:
    """The first photographs of one's own are 'weather', whatever is named stays named, and rendered pictures never mix
    with either."""
    for source, dataset, expected in (
        ("one", None, "weather"),
        ("other", "clouds", "clouds"),
        ("one", None, "clouds"),
        ("synthetic", None, "weather-synthetic"),
        ("one", None, "weather"),
    ):
        params.write_text(edited(params, params.parent, source, dataset), encoding="utf-8")
        assert read(params)["dataset"] == expected, source


def test_a_link_stays_a_link(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source such as ../latest is looked up at each retraining, not once."""
    (params.parent / "latest").symlink_to("one")
    (params.parent / "below").mkdir()
    monkeypatch.chdir(params.parent / "below")
    assert "path: latest" in edited(params, params.parent, "../latest", None)
    (params.parent / "below/deep/er").mkdir(parents=True)
    (params.parent / "er").symlink_to("below/deep/er")
    monkeypatch.chdir(params.parent)
    (params.parent / "below/deep/rain").mkdir()
    assert "path: below/deep/rain" in edited(params, params.parent, "er/../rain", None)
