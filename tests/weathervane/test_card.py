"""The model card: what a person must find on it."""

import re

import pytest

from weathervane.card import MEASURES, model_card
from weathervane.measures import ends

CLASSES = ["rain", "shine"]
MODEL = {"variant": "small", "family": "cnn", "size": 64, "classes": CLASSES, "temperature": 0.75}
MODEL |= {"about": {"dataset": "weather", "data_md5": "ab12.dir", "git_commit": "0123abc"}}


def metrics(**changed: float) -> dict[str, float]:
    names = [*MEASURES, *(f"{kind}/{label}" for kind in ("recall", "precision", "f1") for label in CLASSES)]
    found = {}
    for name in names:
        low, high = ends(name)
        found |= {f"test/{name}": 0.9, f"test/{low}": 0.8, f"test/{high}": 0.95}
    found |= {"test/images": 177, "test/ece_before_scaling": 0.115, "train/overfitting_gap": 0.062}
    return found | {"model/latency_ms": 6.94, "model/bytes": 4_912_345} | changed


def card(metrics: dict[str, float], version: str = "7", synthetic: bool = False) -> str:
    return model_card("weather", version, MODEL, metrics, synthetic=synthetic, decision="Promoted: better on 9.")


def test_it_says_what_where_from_and_how_good() -> None:
    """Variant, data version, commit, the decision, and every measure with its interval."""
    text = card(metrics())
    for fact in ("`small`", "`cnn`", "`ab12.dir`", "`0123abc`", "Promoted: better on 9.", "177 test images"):
        assert fact in text
    for told in MEASURES.values():
        assert f"| {told} | 0.900 | 0.800–0.950 |" in text
    assert "4,912,345" in text and "| 6.9 |" in text
    assert "rendered" not in text


def test_the_weakest_class_comes_first() -> None:
    """By F1, whatever the alphabet says."""
    text = card(metrics(**{"test/f1/shine": 0.5}))
    assert text.index("| shine |") < text.index("| rain |")
    assert "| shine | 0.900 | 0.800–0.950 | 0.900 | 0.800–0.950 | 0.500 | 0.800–0.950 |" in text


def test_rendered_pictures_are_said_to_be() -> None:
    """Nobody takes the figures of a synthetic dataset for those of photographs."""
    assert "rendered pictures: its figures say nothing about photographs" in card(metrics(), synthetic=True)


@pytest.mark.parametrize(("version", "place"), [("7", "models:/weather/7"), ("@champion", "models:/weather@champion")])
def test_it_says_how_to_load_it(version: str, place: str) -> None:
    """By number or by alias, in code that is Python."""
    (code,) = re.findall("```python\n(.*?)```", card(metrics(), version), re.S)
    compile(code, "card", "exec")
    assert place in code


def test_a_run_of_before_there_were_intervals_has_a_card() -> None:
    """What was not measured then is left out; the card stands."""
    old = {
        "test/images": 177,
        "test/accuracy": 0.9,
        **{f"test/{k}/{c}": 0.9 for k in ("f1", "recall") for c in CLASSES},
    }
    text = card(old)
    assert "MB" not in text and "milliseconds" not in text and "| rain | 0.900 |" in text
