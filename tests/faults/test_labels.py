"""faults 45 and 47: classes that come, go or change their name, and labels that are wrong."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.skies import rendered
from weathervane import synthetic
from weathervane.errors import InputError
from weathervane.evaluate import predictions
from weathervane.fit import fit
from weathervane.gate import SUSPECTED, Register, doubted
from weathervane.ingest import Ingest, ingest
from weathervane.ledger import Ledger
from weathervane.model import Model
from weathervane.params import load
from weathervane.prepare import Prepare, prepare
from weathervane.sorting import Report
from weathervane.store import Store
from weathervane.suspects import suspects
from weathervane.variant import Variant

CPU = torch.device("cpu")
REGISTER = Path(__file__).parents[2] / "params/register.yaml"
VARIANT = Variant.model_validate(
    {
        "family": "dnn",
        "size": 32,
        "flip_test": True,
        "network": {"hidden": [64, 64], "activation": "relu", "norm": True, "dropout": 0.1, "input_size": 16},
        "augment": {"crop": [0.7, 1], "ratio": 1.2, "rotate": 0, "flip": True, "brightness": 0.1, "contrast": 0.1}
        | {"saturation": 0.1, "erase": 0, "mixup": 0, "cutmix": 0},
        "train": {"epochs": 40, "batch": 16, "optimizer": "adamw", "lr": 3e-3, "warmup": 0.2, "weight_decay": 0.01}
        | {"label_smoothing": 0.1, "ema": 0.9},
    }
)


def fill(inbox: Path, folder: str, label: str, first: int, count: int) -> None:
    """Rendered skies of `label` in the class folder `folder`."""
    (inbox / folder).mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        (inbox / folder / f"sky{index}.jpg").write_bytes(synthetic.render(label, index))


def take_in(root: Path, max_bad: float = 0.05) -> Report:
    params = {"dataset": "skies", "sources": [{"kind": "local", "path": "inbox"}], "test_fraction": 0.2, "folds": 4}
    report = ingest(Ingest.model_validate(params | {"seed": 0, "max_bad": max_bad, "min_per_class": 5}), root)
    prepare(Prepare(image_size=32, shard=50), root)
    return report


def held(root: Path) -> dict[str, str]:
    """sha256 → class."""
    return {row.sha256: row.label for row in Ledger.read(root / "data/raw").rows}


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three classes of 20 and a model trained on them in model/. Read only."""
    root = tmp_path_factory.mktemp("champion")
    for number, label in enumerate(("cloudy", "rain", "sunrise")):
        fill(root / "inbox", label, label, 100 * number, 20)
    take_in(root)
    fit("dnn", VARIANT, Store(root / "data/prepared"), root, device=CPU)
    return root


@pytest.fixture
def mine(champion: Path, tmp_path: Path) -> Path:
    """The same project, to be changed."""
    return Path(shutil.copytree(champion, tmp_path / "mine"))


def verdicts(root: Path) -> dict[str, tuple[str, str, float]]:
    """What the champion says of each image: its label, the predicted class, that class's probability."""
    model, store = Model.load(root / "model"), Store(root / "data/prepared")
    found = {}
    for split in ("train", "test"):
        for line in predictions(model, store, split).to_dict("records"):
            found[line["sha256"]] = (line["label"], line["predicted"], round(line[f"p_{line['predicted']}"], 5))
    return found


def accuracy(root: Path) -> float:
    return float(np.mean([label == predicted for label, predicted, _ in verdicts(root).values()]))


def test_the_champion_is_no_guesser(champion: Path) -> None:
    """What follows is about a model that knows its classes, far above the third that chance gets: shifted labels would
    show."""
    assert accuracy(champion) > 0.7


@pytest.mark.fault(45)
@pytest.mark.parametrize("name", ["aurora", "haze", "zenith"])
def test_a_new_class_shifts_no_label(mine: Path, name: str) -> None:
    """A class that comes first, in between or last in the alphabet: the champion says of every earlier image what it
    said before, by name; the next model knows the new class, under its name."""
    before = verdicts(mine)
    fill(mine / "inbox", name, "shine", 300, 20)
    assert len(take_in(mine).accepted) == 20
    after = verdicts(mine)
    assert {sha: after[sha] for sha in before} == before
    assert {label for sha, (label, _, _) in after.items() if sha not in before} == {name}
    assert {predicted for _, predicted, _ in after.values()} <= {"cloudy", "rain", "sunrise"}
    fit("dnn", VARIANT, Store(mine / "data/prepared"), mine, device=CPU)
    assert Model.load(mine / "model").spec.classes == sorted(["cloudy", "rain", "sunrise", name])
    assert accuracy(mine) > 0.5


@pytest.mark.fault(45)
def test_a_class_that_left_the_source_stays_in_the_data(mine: Path) -> None:
    """The ledger only grows: an inbox without a class folder takes away no image, and shifts no label."""
    before, labels = verdicts(mine), held(mine)
    shutil.rmtree(mine / "inbox/rain")
    fill(mine / "inbox", "sunrise", "sunrise", 400, 3)
    assert len(take_in(mine).accepted) == 3
    after = verdicts(mine)
    assert {sha: after[sha] for sha in before} == before
    assert {sha: held(mine)[sha] for sha in labels} == labels


@pytest.mark.fault(45)
def test_a_class_that_was_emptied_is_refused(mine: Path) -> None:
    """An empty class folder is an accident until somebody says otherwise; nothing is taken in meanwhile."""
    labels = held(mine)
    for photograph in (mine / "inbox/rain").iterdir():
        photograph.unlink()
    fill(mine / "inbox", "sunrise", "sunrise", 400, 3)
    with pytest.raises(InputError, match="the class folder 'rain' is empty"):
        take_in(mine)
    assert held(mine) == labels


def test_a_class_of_one_picture_is_refused(mine: Path) -> None:
    """Twelve shots of one scene are one group, and none is left to learn from: it is told, and nothing is taken in."""
    labels = held(mine)
    (mine / "inbox/fog").mkdir()
    with Image.open(io.BytesIO(synthetic.render("cloudy", 900))) as scene:
        for shot in range(12):
            scene.save(mine / f"inbox/fog/{shot}.jpg", quality=70 + shot)
    with pytest.raises(InputError, match="class 'fog': its 12 images are so few groups of near-duplicates that none"):
        take_in(mine)
    assert held(mine) == labels


@pytest.mark.parametrize("shots", [6, 1])
def test_a_class_without_an_image_to_test_on_is_refused(tmp_path: Path, shots: int) -> None:
    """Two scenes of six shots each, neither small enough for a fifth; or a test part so small that nothing goes there:
    told, with what to do, before anything is trained."""
    fill(tmp_path / "inbox", "rain", "rain", 0, 40)
    (tmp_path / "inbox/sun").mkdir()
    for number in range(12 // shots):
        with Image.open(io.BytesIO(synthetic.render("sunrise", 900 + number))) as scene:
            for shot in range(shots):
                scene.save(tmp_path / f"inbox/sun/{number}-{shot}.jpg", quality=70 + shot)
    sources = [{"kind": "local", "path": "inbox"}]
    asked = {"dataset": "d", "sources": sources, "test_fraction": 0.2 if shots > 1 else 0.04, "folds": 2, "seed": 0}
    with pytest.raises(InputError, match=r"class 'sun': none of its 12 images is there to test on.*test_fraction: 0"):
        ingest(Ingest.model_validate(asked | {"max_bad": 0.0, "min_per_class": 10}), tmp_path)
    assert not (tmp_path / "data/raw/ledger.csv").exists()


@pytest.mark.fault(45)
def test_a_renamed_class_is_refused(mine: Path) -> None:
    """The same photographs under another class name are label conflicts: told which, and nothing is taken in."""
    labels, before = held(mine), verdicts(mine)
    (mine / "inbox/rain").rename(mine / "inbox/drizzle")
    with pytest.raises(InputError, match=r"max_bad.*the same picture is labelled rain as rain/sky1"):
        take_in(mine)
    assert held(mine) == labels and verdicts(mine) == before


@pytest.mark.fault(45)
def test_a_few_renamed_images_are_set_aside(mine: Path) -> None:
    """Below max_bad, each such image is in the quarantine with its reason, and keeps the label that it had."""
    labels = held(mine)
    fill(mine / "inbox", "sunrise", "sunrise", 400, 3)
    for index in (100, 101):
        (mine / f"inbox/rain/sky{index}.jpg").rename(mine / f"inbox/cloudy/sky{index}.jpg")
    report = take_in(mine)
    assert [bad.reason for bad in report.quarantined] == ["label conflict"] * 2
    assert len(report.accepted) == 3
    assert {sha: held(mine)[sha] for sha in labels} == labels


def test_a_class_under_two_spellings_is_one(mine: Path) -> None:
    """`Rain` and ` rain` are rain: case and blanks make no new class, and the photographs are known."""
    labels = held(mine)
    (mine / "inbox/rain").rename(mine / "inbox/Rain")
    assert take_in(mine).known == 60
    assert held(mine) == labels


@pytest.fixture(scope="module")
def skies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 x 60 rendered skies, prepared at 32 pixels. Read only."""
    return rendered(tmp_path_factory.mktemp("skies"), 60, Prepare(image_size=32, shard=50)) / "data/prepared"


@pytest.fixture(scope="module")
def clean(skies: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The share of labels that a model doubts where all are right."""
    folder, store = tmp_path_factory.mktemp("clean"), Store(skies)
    fit("dnn", VARIANT, store, folder, device=CPU)
    return len(suspects(Model.load(folder / "model"), store)) / len(store.manifest["label"])


@pytest.mark.fault(47, trials=24)
def test_flipped_labels_are_found(skies: Path, clean: float, tmp_path: Path) -> None:
    """10 % of all labels are wrong, and the model was trained on them: at least 60 % of those are among the suspects,
    far more than chance finds, with the true class beside them; and the gate stays shut."""
    store, rng = Store(skies), np.random.default_rng(0)
    truth = store.manifest["label"].copy()
    flipped = rng.choice(len(truth), 24, replace=False)
    for row in flipped:
        store.manifest["label"][row] = rng.choice([label for label in store.classes if label != truth[row]])
    fit("dnn", VARIANT, store, tmp_path, device=CPU)
    table = suspects(Model.load(tmp_path / "model"), store)
    suggested = dict(zip(table["sha256"], table["suggested"], strict=True))
    found = [row for row in flipped if store.manifest["sha256"][row] in suggested]
    share = len(table) / len(truth)
    assert len(found) >= 0.6 * len(flipped) and len(found) / len(flipped) > 3 * share
    right = [row for row in found if suggested[store.manifest["sha256"][row]] == truth[row]]
    assert len(right) >= 0.7 * len(found)
    assert "labels are doubted" in doubted({SUSPECTED: share}, {SUSPECTED: clean}, "1", load(Register, REGISTER))


def test_right_labels_are_left_alone(clean: float) -> None:
    """On skies that are what they are called, the same model suspects fewer than 1 label in 5."""
    assert clean < 0.2
