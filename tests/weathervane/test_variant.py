"""A variant's YAML: what it may say, and how a mistake in it is told."""

from pathlib import Path

import pytest

from weathervane import variant
from weathervane.errors import InputError

TEXT = """\
# One.
#   Two.
family: dnn
size: 64
flip_test: true
network: {hidden: [512, 256], activation: relu, norm: true, dropout: 0.3, input_size: 32}
augment:
  crop: [0.5, 1.0]
  ratio: 1.33
  rotate: 5
  flip: true
  brightness: 0.2
  contrast: 0.2
  saturation: 0.2
  erase: 0
  mixup: 0.2
  cutmix: 0
# Three.
train:
  epochs: 60
  batch: 32
  optimizer: adamw
  lr: 1.0e-3
  warmup: 0.2
  weight_decay: 0.05
  label_smoothing: 0.1
  ema: 0.99
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one variant, called `mine`."""
    (tmp_path / variant.FOLDER).mkdir(parents=True)
    (tmp_path / variant.FOLDER / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def edit(root: Path, old: str, new: str) -> None:
    path = root / variant.FOLDER / "mine.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_variant_is_one_file(root: Path) -> None:
    """A YAML of any name in params/models is a variant; nothing else need be told."""
    assert variant.names(root) == ["mine"]
    mine = variant.load(root, "mine")
    assert (mine.family, mine.size, mine.augment.crop, mine.train.lr) == ("dnn", 64, (0.5, 1.0), 0.001)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs:", "epoch:", r"mine\.yaml: unknown key 'train\.epoch' \(did you mean 'epochs'\?\)"),
        ("  batch: ", "  # batch: ", r"mine\.yaml: key 'train\.batch' is missing"),
        ("family: ", "family: x", r"'family' is 'x.*no such family; there are "),
        ("warmup: ", "warmup: 1", r"'train\.warmup' is 1"),
        ("optimizer: ", "optimizer: x", r"'train\.optimizer' is 'x"),
        ("crop: [", "crop: [2, ", r"'augment\.crop'"),
        ("lr: ", "lr: .nan #", r"'train\.lr' is nan"),
        ("\nsize: ", "\nsize: 4 #", r"'size' is 4"),
        ("network:", "network: [\n", r"params/models/mine\.yaml: not readable as YAML"),
    ],
)
def test_a_mistake_is_told_with_file_and_key(root: Path, old: str, new: str, told: str) -> None:
    """One line names the file, the key and what is wrong with it."""
    edit(root, old, new)
    with pytest.raises(InputError, match=told) as caught:
        variant.load(root, "mine")
    assert "\n" not in str(caught.value)


def test_scale_is_refused_where_a_network_takes_one_size(root: Path) -> None:
    """A network that is built for one size is not trained on another, and the message says what to do."""
    edit(root, "  crop: [0.5, 1.0]", "  crop: [0.5, 1.0]\n  scale: 0.5")
    with pytest.raises(InputError, match=r"mine\.yaml: .*augment\.scale: 0\.5: .*leave scale out"):
        variant.load(root, "mine")
    assert variant.load(root, "mine", {"augment.scale": 1}).augment.scale == 1


@pytest.mark.parametrize("crop", [(0, 1), (0.6, 0.5), (0.5, 1.1), (-0.1, 0.5)])
def test_crop_is_two_ordered_shares(root: Path, crop: tuple[float, float]) -> None:
    """0 < smallest <= largest <= 1, or it is refused."""
    with pytest.raises(InputError, match=r"augment\.crop.*two shares of the area"):
        variant.load(root, "mine", {"augment.crop": list(crop)})


def test_a_variant_may_wait_to_be_named(root: Path) -> None:
    """`by_default: false` takes a variant out of those that are trained where none is named; it is no parameter."""
    before = variant.load(root, "mine")
    assert variant.defaults(root) == variant.names(root) == ["mine"]
    edit(root, "family: dnn\n", "by_default: false\nfamily: dnn\n")
    assert variant.defaults(root) == [] and variant.names(root) == ["mine"]
    assert variant.load(root, "mine").model_dump() == before.model_dump()
    edit(root, "by_default: false", "by_default: perhaps")
    with pytest.raises(InputError, match=r"mine\.yaml: 'by_default' is 'perhaps'"):
        variant.defaults(root)


def test_set_replaces_one_value(root: Path) -> None:
    """`--set train.epochs=5` changes that and nothing else; a key that the file lacks is refused."""
    before, after = variant.load(root, "mine"), variant.load(root, "mine", {"train.epochs": 5})
    assert after.train.epochs == 5 != before.train.epochs
    assert after.model_copy(update={"train": before.train}) == before
    with pytest.raises(InputError, match=r"--set mine\.train\.epoch: .*no key 'epoch' \(did you mean 'epochs'\?\)"):
        variant.load(root, "mine", {"train.epoch": 5})


def test_an_unknown_variant_is_told_with_those_there_are(root: Path) -> None:
    """The message lists what could have been meant; a name is no path."""
    for name in ("mien", "../models/mine", ""):
        with pytest.raises(InputError, match="params/models/ has mine"):
            variant.load(root, name)


def test_the_header_is_the_leading_comment(root: Path) -> None:
    """`weathervane variants` shows the comment lines that head the file, and no later ones."""
    assert variant.header(root, "mine") == "One.\nTwo."
