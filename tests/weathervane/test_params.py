"""params/: YAML 1.2 as people write it, strict keys, and errors of one line that name the key."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from weathervane.errors import InputError
from weathervane.params import Strict, check, flatten, load, override, read, value


class Folder(Strict):
    kind: Literal["folder"]
    path: str


class Made(Strict):
    kind: Literal["made"]
    per_class: int = Field(ge=1)


class Train(Strict):
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0)


class Params(Strict):
    name: str
    train: Train
    sources: list[Annotated[Folder | Made, Field(discriminator="kind")]]


GOOD = "name: dnn  # a comment\ntrain:\n  epochs: 5\n  lr: 1e-3\nsources:\n- kind: made\n  per_class: 7\n"


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes a params file and returns its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "x.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def message(call: Any, *arguments: Any) -> str:
    """What the person reads: one line, not long."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def test_a_good_file(file: Any) -> None:
    """Comments, `1e-3` for a float, and lists of mappings are read as they look."""
    params = load(Params, file(GOOD))
    assert params == Params(name="dnn", train=Train(epochs=5, lr=0.001), sources=[Made(kind="made", per_class=7)])


@pytest.mark.parametrize("encoded", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_files_from_windows(file: Any, encoded: bytes) -> None:
    """A byte order mark and CRLF change nothing."""
    assert load(Params, file(encoded)) == load(Params, file(GOOD))


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("-5E+2", -500.0),
        ("5", 5),
        ("010", 10),
        ("true", True),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("12:30", "12:30"),
        ("null", None),
        ("", None),
        ("sgd", "sgd"),
        ("'5'", "5"),
        ("[0.5, 1.0]", [0.5, 1.0]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_values_are_yaml_1_2(file: Any, text: str, read_as: Any) -> None:
    """`no` and `12:30` are words, `010` is ten, `1e-3` is a number: on the command line as in a file."""
    assert value(text) == read_as
    assert type(value(text)) is type(read_as)
    assert read(file(f"a: {text}\n")) == {"a": read_as}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("epochs: 5", "epochs: 5\n  epoch: 5"), "unknown key 'train.epoch' (did you mean 'epochs'?)"),
        (("epochs: 5", "epochs: 5\n  colour: 5"), "unknown key 'train.colour'"),
        (("name: dnn", "nam: dnn"), "unknown key 'nam' (did you mean 'name'?)"),
        (("name: dnn", "nam: dnn"), "key 'name' is missing"),
        (("per_class", "per_clas"), "unknown key 'sources.0.made.per_clas' (did you mean 'per_class'?)"),
        (("kind: made", "kind: mad"), "'made'"),
        (("1e-3", ".nan"), "'train.lr' is nan: should be a finite number"),
        (("1e-3", "-.inf"), "'train.lr' is -inf"),
        (("1e-3", "0"), "'train.lr' is 0: should be greater than 0"),
        (("epochs: 5", "epochs: 5.5"), "'train.epochs' is 5.5"),
        (("epochs: 5", "epochs: no"), "'train.epochs' is 'no'"),
        (("epochs: 5", "epochs:"), "'train.epochs' is None"),
        (("name: dnn", "name: 5"), "'name' is 5: should be a valid string"),
        (("name: dnn", "name: dnn\n1: 2"), "'1' is 1: Keys should be strings"),
        (("name: dnn", "name: 2024-01-01"), "'name' is datetime.date(2024, 1, 1)"),
    ],
)
def test_a_wrong_key_or_value_is_named(file: Any, change: tuple[str, str], told: str) -> None:
    """One line with the file, the dotted key, what stands there, what may, and the key that was meant."""
    path = file(GOOD.replace(*change))
    text = message(load, Params, path)
    assert str(path) in text
    assert told in text


def test_all_wrong_keys_are_named_at_once(file: Any) -> None:
    """Three mistakes need one run to be found, not three."""
    text = message(load, Params, file("nam: x\ntrain: {epochs: 0, lr: 1}\nsources: []\n"))
    assert all(part in text for part in ("'nam'", "'name' is missing", "'train.epochs' is 0"))


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a mapping"),
        ("- 1\n", "a mapping"),
        ("just words\n", "a mapping"),
        ("a: [1,\n", "line 2"),
        ("a: 1\na: 2\n", 'line 2: found duplicate key "a"'),
        ("a:\n\tb: 1\n", "line 2: found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: *b\n", "line 1: found undefined alias"),
        ("a: !!python/object/apply:os.system [exit]\n", "line 1: could not determine a constructor"),
        ("a: !!python/name:os.system\n", "line 1: could not determine a constructor"),
        ("a: !custom 1\n", "line 1: could not determine a constructor"),
        ("a: 2024-99-99\n", "not readable"),
        ("a: " + "9" * 5000 + "\n", "not readable"),
        (b"a: \xff\n", "not readable"),
        (b"a: \x00\n", "not readable"),
        ("a: {[x]: 1, {y: z}: 2}\n", "not readable"),
    ],
)
def test_what_is_no_params_file_is_told(file: Any, text: str | bytes, told: str) -> None:
    """Broken YAML, tags that would build objects, two documents: the file, the line and the reason."""
    path = file(text)
    assert str(path) in (found := message(read, path))
    assert told in found


def test_no_file_and_no_file_at_all(tmp_path: Path) -> None:
    """A missing file and a folder in its place are named."""
    assert "no such file" in message(read, tmp_path / "missing.yaml")
    assert str(tmp_path) in message(read, tmp_path)


@pytest.mark.fault(15)
def test_an_alias_bomb_stays_small(file: Any) -> None:
    """Ten levels of ten aliases stand for 10 billion words; refusing them takes neither memory nor a screenful."""
    levels = ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))
    text = message(load, Params, file(GOOD.replace("dnn", f"[&a0 [x, x, x, x, x, x, x, x, x, x], {levels}]")))
    assert "'name' is [[" in text


def test_merge_keys_and_aliases_are_fine(file: Any) -> None:
    """Ordinary anchors work as in any YAML."""
    assert read(file("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n")) == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1},
    }


@pytest.mark.fault(15)
@pytest.mark.parametrize("text", ["a: b: c", "[1", '"x', "*a", "@x", "\x00", "2024-99-99", "!!python/name:os.system"])
def test_an_unreadable_value_is_told(text: str) -> None:
    """What `--set` cannot read is told, not raised."""
    assert "--set" in message(value, text)


CONTENT = {"name": "dnn", "train": {"epochs": 5, "lr": 0.1}, "crop": [0.5, 1.0]}


def test_override_sets_one_key_in_a_copy() -> None:
    """A dotted key reaches down; the rest, and the original, stay as they are."""
    changed = override(CONTENT, "train.lr", 0.2, "x.yaml")
    assert changed == {"name": "dnn", "train": {"epochs": 5, "lr": 0.2}, "crop": [0.5, 1.0]}
    assert CONTENT["train"] == {"epochs": 5, "lr": 0.1}
    assert override(CONTENT, "crop", [1, 1], "x.yaml")["crop"] == [1, 1]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("trian.lr", "x.yaml has no key 'trian' (did you mean 'train'?)"),
        ("train.lrr", "x.yaml: train has no key 'lrr' (did you mean 'lr'?)"),
        ("name.x", "x.yaml: 'name' holds a single value, so 'name.x' names nothing"),
        ("crop.0", "'crop' holds a single value"),
        ("train..lr", "has no key ''"),
        ("", "has no key ''"),
        ("colour", "x.yaml has no key 'colour'"),
    ],
)
def test_override_refuses_what_is_not_there(key: str, told: str) -> None:
    """A misspelt `--set` changes nothing and names the nearest key."""
    assert told in message(override, CONTENT, key, 1, "x.yaml")


KEY = st.sampled_from(["a", "b", "a b", "눈"])
LEAF = st.none() | st.integers() | st.lists(st.booleans(), max_size=2)
NESTED = st.dictionaries(KEY, LEAF | st.dictionaries(KEY, LEAF | st.dictionaries(KEY, LEAF)))


@settings(max_examples=50, deadline=None)
@given(NESTED)
def test_flat_keys_are_those_that_override_takes(content: dict[str, Any]) -> None:
    """Each key that MLflow shows can be given to `--set`, and setting it to its own value changes nothing."""
    for key, leaf in flatten(content).items():
        assert override(content, key, leaf, "x.yaml") == content


def test_schemas_take_yaml_with_its_comments() -> None:
    """Round-trip YAML objects, of a file that is edited, are checked as they are and become plain lists and values."""
    from ruamel.yaml import YAML

    params = check(Params, YAML().load(GOOD), "x.yaml")
    assert params == check(Params, YAML(typ="safe").load(GOOD), "x.yaml")
    assert params.train.epochs == 5 and type(params.sources) is list


def test_params_cannot_be_changed_after_reading(file: Any) -> None:
    """What was checked stays what it was."""
    params = load(Params, file(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        params.name = "cnn"  # type: ignore[misc]
