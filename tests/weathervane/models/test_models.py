"""Every family of networks and every variant: the registries are walked, no member is named."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conftest import fresh
from weathervane import variant
from weathervane.device import normalise, resident, to_float
from weathervane.errors import InputError
from weathervane.fit import Outcome, fit
from weathervane.model import Model, Spec, build
from weathervane.models import FAMILIES, family
from weathervane.store import Store
from weathervane.variant import Variant

ROOT = Path(__file__).parents[3]
VARIANTS = variant.names(ROOT)
SMALL = {"size": 32, "train.epochs": 2, "train.batch": 16}  # fits the store of tests/conftest.py
CPU = torch.device("cpu")

every_family = pytest.mark.parametrize("name", FAMILIES)
every_variant = pytest.mark.parametrize("name", VARIANTS)


def network(chosen: Variant, size: int | None = None, classes: int = 4) -> torch.nn.Module:
    size = size or chosen.size
    labels = [f"class {number}" for number in range(classes)]
    torch.manual_seed(0)
    return build(Spec("test", chosen.family, chosen.network, size, size, labels, chosen.flip_test))


def test_the_walk_is_complete() -> None:
    """Each module in weathervane/models is a family, each family has a variant, each params file is walked."""
    modules = [path for path in (ROOT / "weathervane/models").glob("*.py") if path.stem != "__init__"]
    files = list((ROOT / "params/models").glob("*.yaml"))
    assert len(FAMILIES) == len(modules) > 0
    assert len(VARIANTS) == len(files) >= len(FAMILIES)
    assert {variant.load(ROOT, name).family for name in VARIANTS} == set(FAMILIES)


@every_variant
def test_shape_and_dtype(name: str) -> None:
    """A variant's network gives float32 logits [N, K], at its own size and at another, for images in any layout."""
    chosen = variant.load(ROOT, name)
    for size, classes in ((chosen.size, 4), (2 * chosen.size, 7)):
        images = torch.rand(2, 3, size, size)
        net = network(chosen, size, classes).eval()
        out = net(images)
        assert torch.allclose(net(images.contiguous(memory_format=torch.channels_last)), out, atol=1e-4)
        assert (out.shape, out.dtype) == ((2, classes), torch.float32)
        assert out.isfinite().all()


@every_variant
def test_an_odd_size_works_or_is_refused(name: str) -> None:
    """A size that a network cannot take is told when the file is read, not by a traceback in the middle of training."""
    size = variant.load(ROOT, name).size
    for other in (size + 1, size + 2):
        try:
            chosen = variant.load(ROOT, name, {"size": other})
        except InputError as error:
            assert str(other) in str(error)
        else:
            assert network(chosen).eval()(torch.rand(1, 3, other, other)).shape == (1, 4)


def test_any_size_is_what_a_network_says() -> None:
    """Networks that say `any_size` take images both smaller and larger than those they were built for."""
    flexible = 0
    for chosen in (variant.load(ROOT, name) for name in VARIANTS):
        schema = family(chosen.family).Network.model_validate(chosen.network)
        if getattr(schema, "any_size", False):
            flexible += 1
            for size in (chosen.size // 2, chosen.size + 7):
                assert network(chosen).eval()(torch.rand(2, 3, size, size)).shape == (2, 4)
    assert flexible > 1


@every_variant
def test_gradient_reaches_every_parameter(name: str) -> None:
    """No weight of a network is dead: each one gets a gradient that is not zero."""
    chosen = variant.load(ROOT, name)
    net = network(chosen).train()
    with torch.no_grad():  # away from the start, where a residual block is the identity by design
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    F.cross_entropy(net(torch.randn(8, 3, chosen.size, chosen.size)), torch.arange(8) % 4).backward()
    for where, parameter in net.named_parameters():
        assert parameter.grad is not None, where
        assert parameter.grad.abs().sum() > 0, where


@pytest.mark.slow
@every_variant
def test_overfits_one_batch(name: str, store: Store) -> None:
    """A network that can learn brings the loss on 16 rendered skies under 0.1 within 60 steps."""
    chosen = variant.load(ROOT, name, {"size": 32} | fresh(name))
    rows = store.part("train")[::4][:16]
    images = normalise(to_float(resident(store.pixels(rows), 32, CPU)))
    labels = torch.from_numpy(np.searchsorted(store.classes, store.manifest["label"][rows]))
    net = network(chosen).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(60):
        loss = F.cross_entropy(net(images), labels)
        if loss < 0.1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.fixture(scope="module", params=VARIANTS)
def twice(
    request: pytest.FixtureRequest, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, Outcome]]:
    """A variant trained with seed 1, and again."""
    chosen = variant.load(ROOT, request.param, SMALL | fresh(request.param) | {"train.epochs": 1})
    runs = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp(request.param)
        torch.rand(1)  # whatever the global generator's state: it must not matter
        runs.append((folder, fit(request.param, chosen, store, folder, device=CPU, seed=1)))
    return runs


@pytest.mark.slow
def test_equal_seeds_give_equal_weights(twice: list[tuple[Path, Outcome]]) -> None:
    """On a CPU a seed decides every bit of the weights."""
    first, again = ((folder / "model/model.safetensors").read_bytes() for folder, _ in twice)
    assert first == again


@pytest.mark.slow
def test_another_seed_gives_other_weights(store: Store, tmp_path: Path) -> None:
    """A training draws from the seed that it is given."""
    chosen, weights = variant.load(ROOT, "dnn", SMALL | {"train.epochs": 1, "network.hidden": [8, 8]}), set()
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        fit("dnn", chosen, store, tmp_path / str(seed), device=CPU, seed=seed)
        weights.add((tmp_path / str(seed) / "model/model.safetensors").read_bytes())
    assert len(weights) == 2


@pytest.mark.slow
def test_a_saved_model_computes_the_same(twice: list[tuple[Path, Outcome]], store: Store, tmp_path: Path) -> None:
    """From memory through safetensors and back, the logits are the same to the last bit."""
    folder, outcome = twice[0]
    model = Model.load(folder / "model")
    pixels = store.pixels(store.part("test"))
    model.save(tmp_path, pixels)
    assert torch.equal(model.logits(pixels), Model.load(tmp_path).logits(pixels))
    assert model.probe_error(folder / "model") == 0
    assert outcome.parameters == sum(p.numel() for p in model.net.parameters())


@every_family
def test_an_unknown_network_parameter_is_refused_by_name(name: str) -> None:
    """A key under `network:` that the family does not know is one line that names it."""
    some = next(chosen for chosen in VARIANTS if variant.load(ROOT, chosen).family == name)
    content = variant.load(ROOT, some).model_dump()
    content["network"]["wombats"] = 3
    with pytest.raises(ValueError, match=f"network of family {name}: unknown key 'wombats'"):
        Variant.model_validate(content)
    with pytest.raises(InputError, match="network has no key 'wombats'"):
        variant.load(ROOT, some, {"network.wombats": 3})


@every_family
def test_every_network_parameter_counts(name: str) -> None:
    """The schema has no key that a variant may leave out in silence: defaults would hide what was trained."""
    assert all(field.is_required() for field in family(name).Network.model_fields.values())


@every_family
def test_older_models_lack_keys_that_came_later(name: str) -> None:
    """What a family says of keys that came later are keys of its own, and a model that was saved before them is built
    as it was then."""
    before = getattr(family(name), "LEGACY_DEFAULTS", {})
    assert set(before) <= set(family(name).Network.model_fields)
    some = next(chosen for chosen in VARIANTS if variant.load(ROOT, chosen).family == name)
    whole = variant.load(ROOT, some, {f"network.{key}": value for key, value in before.items()})
    older = whole.model_copy(update={"network": {k: v for k, v in whole.network.items() if k not in before}})
    shapes = [[(key, value.shape) for key, value in network(one).state_dict().items()] for one in (whole, older)]
    assert shapes[0] == shapes[1]


def test_an_lstm_reads_patches_as_well() -> None:
    """With `columns`, steps are patches: of as many weights at any size, which has to fall into whole patches."""
    patches = {"network.rows": 8, "network.columns": 16}
    for size in (64, 128):
        net = network(variant.load(ROOT, "lstm", patches | {"size": size}))
        assert net(torch.rand(2, 3, size, size)).shape == (2, 4)
        assert net[1].in_features == 3 * 8 * 16
    with pytest.raises(InputError, match=r"network\.columns: 16 does not divide size: 72"):
        variant.load(ROOT, "lstm", patches | {"size": 72})


def test_pooling_must_leave_something() -> None:
    """More halvings than a size has are refused for plain convolutions; residual ones take it."""
    with pytest.raises(InputError, match=r"network\.stages: 4 halvings leave nothing of size: 8"):
        variant.load(ROOT, "cnn_plain", {"size": 8, "network.stages": 4})
    small = variant.load(ROOT, "cnn_plain", {"size": 17, "network.stages": 4})
    assert network(small)(torch.rand(2, 3, 17, 17)).shape == (2, 4)
    assert variant.load(ROOT, "cnn", {"size": 8, "network.stages": 6}).size == 8


def test_schemas_are_read_without_torch() -> None:
    """`weathervane variants` and a misspelt parameter are answered without importing torch."""
    code = (
        "import sys; from weathervane.models import FAMILIES, family\n"
        "networks = [family(name).Network for name in FAMILIES]\n"
        "print(len(networks), 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [str(len(FAMILIES)), "False"]
