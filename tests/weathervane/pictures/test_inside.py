"""Every variant's network has the pictures that its structure asks for: the registry is walked, no member is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.weathervane.pictures.look import looked_at, uncut
from weathervane import variant
from weathervane.device import normalise, resident, to_float
from weathervane.evaluate import predictions
from weathervane.gradients import gradient_stats
from weathervane.layers import Bands, Recurrent, conv_norm
from weathervane.model import Model, Spec, build
from weathervane.pictures.inside import inside_pictures
from weathervane.store import Store

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


FAMILY = {name: variant.load(ROOT, name).family for name in variant.names(ROOT)}
FIRST = {family: name for name, family in reversed(FAMILY.items()) if family != "transfer"}  # the others in a drill


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one in FIRST.values() else [pytest.mark.drill]) for one in FAMILY]
)
def test_every_variant_is_looked_into(name: str, store: Store, tmp_path: Path) -> None:
    """Gradients, filters and occlusion of all, patches of what convolves, steps and saliency of what recurs: whole
    pictures of a readable width; the network is what it was, and so is torch's generator."""
    chosen = variant.load(ROOT, name, {"size": 32})
    torch.manual_seed(0)
    spec = Spec(name, chosen.family, chosen.network, 32, store.size, store.classes, chosen.flip_test)
    net, rows = build(spec), store.part("train")[:16]
    images = resident(store.pixels(rows), 32, CPU)
    targets = F.one_hot(torch.from_numpy(np.searchsorted(store.classes, store.manifest["label"][rows])), 4).float()
    F.cross_entropy(net.train()(normalise(to_float(images))), targets).backward()
    record = [{"epoch": epoch} | gradient_stats(net, images, targets, epoch, 2) for epoch in (1, 2)]
    model = Model(net, spec, CPU)
    held, random = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()

    inside_pictures(model, store, predictions(model, store, "test"), record, tmp_path)

    wanted = {"gradients", "filters", "occlusion"}
    kinds = {type(module) for module in net.modules()}
    wanted |= {"patches"} if nn.Conv2d in kinds else set()
    wanted |= {"steps", "saliency"} if any(issubclass(kind, nn.RNNBase) for kind in kinds) else set()
    assert {path.stem for path in tmp_path.iterdir()} == wanted
    for path in tmp_path.iterdir():
        pixels = looked_at(path)
        assert uncut(pixels) and 850 < pixels.shape[1] < 1000 and pixels.shape[0] < 1200, path
    assert all(torch.equal(value, held[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_a_network_that_has_died_is_drawn(store: Store, tmp_path: Path) -> None:
    """All weights 0, so that no gradient and no signal gets back: what can be drawn is, and nothing fails."""
    reader = Recurrent(nn.LSTM(4 * 4 * 16, 5, batch_first=True))
    net = nn.Sequential(*conv_norm(3, 4, stride=2), nn.ReLU(), Bands(4), reader, nn.Linear(5, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    images, targets = torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.eye(4).repeat(2, 1)
    F.cross_entropy(net(images.float()), targets).backward()
    model = Model(net, Spec("dead", "cnn", {}, 32, store.size, store.classes, False), CPU)
    record = [{"epoch": 1} | gradient_stats(net, images, targets, 0, 1)]
    inside_pictures(model, store, predictions(model, store, "test"), record, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"gradients", "filters", "occlusion", "steps", "saliency"}
