"""Pretrained backbones. The weights are the test's own, saved as torchvision saves them and served on loopback."""

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from weathervane import variant
from weathervane.backbone import Transfer, bare, last_linear, renormalisation, replace_head
from weathervane.device import normalise
from weathervane.errors import InputError, Interrupted
from weathervane.fingerprint import digest as digest_of
from weathervane.fingerprint import ingredients
from weathervane.fit import fit, run_epoch
from weathervane.model import Model, Spec, build
from weathervane.models import family
from weathervane.parts import load_fold
from weathervane.ranks import Ranks
from weathervane.state import begin, optimization
from weathervane.store import Store
from weathervane.variant import Variant

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
BACKBONE = "shufflenet_v2_x0_5"
FAST = {"network.backbone": BACKBONE, "network.input_size": 32, "size": 32, "train.batch": 16, "train.epochs": 3}


def chosen(**network: Any) -> Variant:
    return variant.load(ROOT, "transfer", FAST | {f"network.{key}": value for key, value in network.items()})


def transfer(**options: Any) -> Transfer:
    known = {"weights": "none", "sha256": None, "freeze": 2, "rate": 0.1}
    return Transfer(BACKBONE, 4, 32, **known | options)


def train(one: Variant, store: Store, folder: Path, **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    fit("transfer", one, store, folder, device=torch.device("cpu"), **options)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_backbone(folder: Path) -> dict[str, Tensor]:
    """What a saved model holds of its backbone, all but the head."""
    held = load_file(folder / "model/model.safetensors")
    return {key.removeprefix("backbone."): value for key, value in held.items() if ".fc." not in key}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Of the backbone with its thousand classes, as after a training: no statistic is at its start."""
    from torchvision.models import get_model

    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = get_model(BACKBONE).state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator), alpha=0.01)
    return state


@pytest.fixture
def published(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, list[str]]]:
    """The file under the name that has the beginning of its sha256, at torchvision's address for it, which is on
    loopback; and what was asked of the server. torch's cache is empty."""
    from torchvision.models import get_model_weights

    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            asked.append(self.path)

    (tmp_path / "www").mkdir()
    torch.save(weights, tmp_path / "www/new.pth")
    file = tmp_path / f"www/net-{digest(tmp_path / 'www/new.pth')[:10]}.pth"
    (tmp_path / "www/new.pth").rename(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=file.parent)) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/{file.name}"
        monkeypatch.setattr(get_model_weights(BACKBONE).DEFAULT.value, "url", url)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        yield file, asked
        server.shutdown()


def test_weights_come_by_torchvisions_loader_and_stay_in_the_model(
    published: tuple[Path, list[str]], weights: dict[str, Tensor], store: Store, tmp_path: Path
) -> None:
    """A training fetches the weights once; while frozen, nothing of the backbone changes, statistics of its
    normalisation included, and the head learns. The saved model has all of it, and loads without network and cache."""
    file, asked = published
    one = chosen(weights="default", freeze=3)
    for name in ("first", "again"):
        train(one, store, tmp_path / name, seed=1)
    assert asked == [f"/{file.name}"]
    held = of_backbone(tmp_path / "first")
    assert len(held) == len(weights) - 2 > 200
    assert all(torch.allclose(value, weights[key], rtol=1e-6, atol=0) for key, value in held.items())  # an average
    model = Model.load(tmp_path / "first/model")
    torch.manual_seed(1)
    assert not torch.equal(last_linear(build(model.spec)).weight, last_linear(model.net).weight)
    file.unlink()
    shutil.rmtree(tmp_path / "cache")
    assert Model.load(tmp_path / "again/model").probe_error(tmp_path / "first/model") == 0
    assert len(asked) == 1


def test_after_the_frozen_epochs_all_of_it_learns(
    published: tuple[Path, list[str]], weights: dict[str, Tensor], store: Store
) -> None:
    """The first epoch leaves the backbone to the last bit as it was, the second moves every weight and statistic."""
    one = chosen(weights="IMAGENET1K_V1", freeze=1)
    part, _ = load_fold(store, one, 0, torch.device("cpu"))
    spec = Spec("t", "transfer", one.network, 32, 32, store.classes, False)
    state = begin(spec, one.train, len(part.labels), torch.device("cpu"), 0, Ranks())
    floats = [key for key, value in weights.items() if value.is_floating_point() and not key.startswith("fc.")]
    for moved in (False, True):
        for _ in run_epoch(state, part, one, Ranks()):
            pass
        state.end_epoch()
        held = state.net.backbone.state_dict()
        assert {torch.equal(held[key], weights[key]) for key in floats} == {not moved}


def test_an_interrupted_training_goes_on_frozen(
    published: tuple[Path, list[str]], store: Store, tmp_path: Path
) -> None:
    """Interrupted in the frozen epoch and once more after it, the weights come out as in one go."""
    one, left = chosen(weights="default", freeze=1), [2, 4]
    train(one, store, tmp_path / "whole")
    for steps in left:
        calls = iter(range(100))
        with pytest.raises(Interrupted):
            train(one, store, tmp_path / "cut", stop=lambda n=steps, c=calls: next(c) >= n)
    train(one, store, tmp_path / "cut")
    assert digest(tmp_path / "cut/model/model.safetensors") == digest(tmp_path / "whole/model/model.safetensors")


def test_without_a_network_the_way_out_is_told(
    published: tuple[Path, list[str]], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the address, where a file fetched by hand goes, and the keys for another file or for none;
    a file that was put there is taken."""
    from torchvision.models import get_model_weights

    file, asked = published
    entry = get_model_weights(BACKBONE).DEFAULT
    monkeypatch.setattr(entry.value, "url", entry.url.replace(re.search(r":\d+", entry.url)[0], ":1"))
    with pytest.raises(InputError) as error:
        transfer(weights="default").pretrain()
    told = str(error.value)
    assert "\n" not in told and told.startswith(f"network.weights: {entry.url}: ")
    assert "network.weights: FILE, network.sha256: its sha256" in told and "network.weights: none" in told
    place = Path(re.search(r"put it at (\S+\.pth)", told)[1])
    shutil.copy(file, place)
    transfer(weights="default").pretrain()
    assert asked == []
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(InputError, match="it is damaged; remove it") as error:
        transfer(weights="default").pretrain()
    assert str(place) in str(error.value)


def test_a_download_with_another_hash_is_refused(published: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Bytes that are not those of the published hash are told, and nothing of them is kept."""
    file, _ = published
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(InputError, match=rf"{file.name}: invalid hash value"):
        transfer(weights="default").pretrain()
    assert list((tmp_path / "cache/hub/checkpoints").iterdir()) == []


@pytest.mark.parametrize("kind", ["safetensors", "pth", "old.pth"])
def test_weights_come_from_a_file_with_its_sha256(kind: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    """safetensors and torch's own files, old ones as well, fill the backbone; none does with another sha256."""
    path = tmp_path / f"mine.{kind}"
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "pth")
    net = transfer(weights=str(path), sha256=digest(path))
    before = last_linear(net).weight.clone()
    net.pretrain()
    held = net.backbone.state_dict()
    assert all(torch.equal(held[key], value) for key, value in weights.items() if not key.startswith("fc."))
    assert torch.equal(last_linear(net).weight, before)
    with pytest.raises(InputError, match=rf"mine\.{kind}: its sha256 is {digest(path)}, not network\.sha256 0000"):
        transfer(weights=str(path), sha256="0" * 64).pretrain()
    with pytest.raises(InputError, match=r"absent\.pth: .*No such file"):
        transfer(weights=str(tmp_path / "absent.pth"), sha256="0" * 64).pretrain()


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def test_files_of_other_things_are_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """A list, half a network, another network and noise are each one clear line; what a pickle would execute is not."""
    first = next(iter(weights))
    contents: dict[str, tuple[Any, str]] = {
        "list": ([1, 2], "a state_dict is expected"),
        "part": ({first: weights[first]}, f"not of {BACKBONE}: [0-9]+ tensors too many or too few"),
        "more": (weights | {"more.weight": torch.ones(1)}, "1 tensors too many or too few, such as more.weight"),
        "shape": (weights | {first: torch.ones(1)}, f"not of {BACKBONE}: .*size mismatch for {first}"),
        "bomb": (Bomb(tmp_path / "exploded"), "Weights only load failed"),
    }
    for name, (content, told) in contents.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=told) as error:
            transfer(weights=str(tmp_path / f"{name}.pth"), sha256=digest(tmp_path / f"{name}.pth")).pretrain()
        assert "\n" not in str(error.value) and f"{name}.pth" in str(error.value)
    for name in ("noise.pth", "noise.safetensors"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 9)
        with pytest.raises(InputError, match=f"{name}: "):
            transfer(weights=str(tmp_path / name), sha256=digest(tmp_path / name)).pretrain()
    assert not (tmp_path / "exploded").exists()


def test_head_and_backbone_learn_at_rates_of_their_own() -> None:
    """Each parameter is in one group: the head's at the learning rate, the others at their share of it."""
    net = transfer()
    optimizer, schedule = optimization(net, chosen().train, 10)
    shares = {p: round(group["lr"] / schedule.rate, 9) for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters())) == len(shares)
    head = set(last_linear(net).parameters())
    assert {share for p, share in shares.items() if p in head} == {1.0}
    assert {share for p, share in shares.items() if p not in head} == {0.1}


def test_a_frozen_backbone_is_in_eval_mode() -> None:
    """For the first `freeze` epochs only the head has gradients and no normalisation updates; then everything does."""
    net, images = transfer(freeze=2), torch.randn(4, 3, 32, 32)
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    for epoch, free in ((0, False), (1, False), (2, True)):
        net.train()
        net.start_epoch(epoch)
        before = norm.running_mean.clone()
        net(images).sum().backward()
        assert {p.requires_grad for p in last_linear(net).parameters()} == {True}
        others = [p for p in net.parameters() if p.shape[0] != 4]
        assert {p.requires_grad for p in others} == {free}
        assert torch.equal(norm.running_mean, before) != free


def test_without_weights_nothing_is_frozen() -> None:
    """With `weights: none` the network trains from scratch as a whole, at one rate."""
    net = family("transfer").build(family("transfer").Network(**chosen(weights="none").network), 32, 4)
    net.train()
    net.start_epoch(0)
    assert all(p.requires_grad for p in net.parameters())
    assert [rate for _, rate in net.param_groups()] == [1.0, 1.0]
    assert net.backbone.training
    assert net.input_size == 32  # by which `eval_batch_size` goes


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"weights": "mine.pth"}, "mine.pth: a file"),
        ({"sha256": "0" * 64}, "default: a file"),
        ({"weights": "mine.pth", "sha256": "0"}, "network.sha256|'sha256"),
    ],
)
def test_a_file_and_its_sha256_stand_together(network: dict[str, Any], told: str) -> None:
    """A file without sha256, a sha256 without a file, and one of another length are refused when the YAML is read."""
    with pytest.raises(InputError, match=told):
        chosen(**network)


def test_names_that_torchvision_does_not_have_are_told() -> None:
    """An unknown backbone is answered with the nearest, unknown weights with those that there are, a size that a
    backbone cannot take with its own words."""
    with pytest.raises(InputError, match=r"no classification network 'resnet_18' \(did you mean 'resnet18'\?\)"):
        Transfer("resnet_18", 4, 32, weights="none", sha256=None, freeze=0, rate=1.0)
    with pytest.raises(InputError, match="has no 'V7'; there are default, IMAGENET1K_V1, none"):
        transfer(weights="V7").pretrain()
    with pytest.raises(InputError, match=r"network.input_size: vit_b_32 takes no images of 64 pixels: .*224"):
        Transfer("vit_b_32", 4, 64, weights="none", sha256=None, freeze=0, rate=1.0)


def test_other_weights_are_another_training() -> None:
    """The fingerprint has a file's sha256, so a file of the same name with other content is trained from anew."""
    one, other = (chosen(weights="mine.safetensors", sha256=letter * 64) for letter in "ab")
    assert digest_of(ingredients(one, "data", 0)) != digest_of(ingredients(other, "data", 0))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_v2_l", "vgg16"])
def test_images_are_normalised_as_the_weights_expect(name: str) -> None:
    """Whatever statistics weights were made with, the backbone sees what torchvision's own transforms would give."""
    from torchvision.models import get_model_weights

    image = torch.rand(3, 500, 500, generator=torch.Generator().manual_seed(0))
    for weights, entry in get_model_weights(name).__members__.items():
        preset = entry.transforms(crop_size=500, resize_size=500)
        scale, shift = renormalisation(name, weights)
        assert torch.allclose(normalise(image[None])[0] * scale + shift, preset(image), atol=1e-3), weights


@pytest.mark.drill
def test_every_kind_of_backbone_takes_a_head() -> None:
    """The first network of each of torchvision's modules ends in a linear layer of as many classes as there are, and
    every published file has its hash in its name."""
    from torchvision import models

    names = models.list_models(module=models)
    kinds = {models.get_model_builder(name).__module__: name for name in reversed(names)}
    assert len(kinds) >= 17
    for name in kinds.values():
        with torch.device("cpu" if name.startswith("regnet") else "meta"):  # where only shapes are computed
            net = bare(name)
            place = replace_head(net, 7)
            out = net.eval()(torch.zeros(2, 3, 299, 299) if name == "inception_v3" else torch.zeros(2, 3, 224, 224))
        assert out.shape == (2, 7) and last_linear(net).out_features == 7, name
        assert any(key.startswith(f"{place}.") for key in net.state_dict())
    for name in names:
        for entry in models.get_model_weights(name):
            assert re.search(r"-[0-9a-f]{8,}\.pth$", entry.url), entry
