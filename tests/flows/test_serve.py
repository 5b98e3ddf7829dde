"""`mlflow models serve` with the champion, as docs/using.md tells a client."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import Home
from tests.flows.serving import ask, encoded, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uri, log = f"sqlite:///{home.root}/mlflow.db", tmp_path_factory.mktemp("serve") / "log"
    with serving(home.root, "models:/weather-synthetic@champion", uri, log) as url:
        yield url


def test_photographs_are_answered_as_our_own_model_does(home: Home, url: str) -> None:
    """Class and tempered probabilities of several photographs, in both forms that the docs show; of none, none."""
    from weathervane.model import Model

    version = home.mlflow.get_model_version_by_alias("weather-synthetic", "champion")
    model = Model.load(Path(home.mlflow.download_artifacts(version.run_id, "model")))
    images = [path.read_bytes() for path in sorted((home.root / "data/raw").glob("*/*.jpg"))[::20]]
    expected = model.classify(images)
    status, text = ask(url, encoded(*images))
    assert status == 200, text
    answers = json.loads(text)["predictions"]
    for answer, row in zip(answers, expected, strict=True):
        assert answer["class"] == model.spec.classes[row.argmax()]
        assert answer["probability"] == pytest.approx(row.max(), abs=1e-5)
        assert [answer[f"p_{name}"] for name in model.spec.classes] == pytest.approx(row, abs=1e-5)
    status, text = ask(url, {"dataframe_records": [{"image": base64.b64encode(images[0]).decode()}]})
    (alone,) = json.loads(text)["predictions"]  # of a batch of one, whose sums may round otherwise
    assert status == 200 and alone.pop("class") == answers[0].pop("class")
    assert alone == pytest.approx(answers[0], abs=1e-5)
    status, text = ask(url, {"dataframe_split": {"columns": ["image"], "data": []}})
    assert status == 200 and json.loads(text)["predictions"] == [], text


@pytest.mark.fault(57)
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (encoded(b"no photograph"), "an image cannot be used: not an image"),
        (encoded(b""), "an image cannot be used: empty"),
        ({"dataframe_split": {"columns": ["image"], "data": [["/etc/passwd"]]}}, "image"),
        ({"dataframe_split": {"columns": ["picture"], "data": [["aGk="]]}}, "image"),
        ({"dataframe_split": {"columns": ["image"], "data": [[5]]}}, "image"),
        (b"{", "JSON"),
        ({"nothing": 1}, "dataframe_split"),
    ],
)
def test_what_cannot_be_used_is_a_400(url: str, body: Any, told: str) -> None:
    """Bad input is the client's fault, in a clear line: never a 500, never a traceback."""
    status, text = ask(url, body)
    assert status == 400, text
    assert told in text and "Traceback" not in text
