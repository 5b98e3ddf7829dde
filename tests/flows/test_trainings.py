"""How the runs of a retraining are closed when it ends by an error."""

from pathlib import Path
from typing import Any

import pytest

from flows import trainings
from flows.trainings import Begun, closed_by_errors


def broken(*_: Any, **__: Any) -> None:
    raise ConnectionError("the tracking server is gone")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_ended_a_retraining_is_told_where_its_run_cannot_be_closed(
    kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracking server that is gone as well does not take the place of the error, nor of a person's Ctrl-C."""
    monkeypatch.setattr(trainings, "close_retraining", broken)
    monkeypatch.setattr(trainings, "close_variant", broken)
    with pytest.raises(kind, match="the reason"), closed_by_errors(tmp_path, "1"):
        raise kind("the reason")

    def interrupted() -> None:
        raise KeyboardInterrupt("the reason")

    with pytest.raises(KeyboardInterrupt, match="the reason"):
        trainings._closed_if_failed(tmp_path, Begun("1", interrupted))
