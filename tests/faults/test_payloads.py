"""Files that want to be executed, and weights that are not those that were trained: rows 49 and 50 of rows.yaml."""

import hashlib
import io
import json
import os
import pickle
import pickletools
import random
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.rows import often
from weathervane import backbone, checkpoint, images, params
from weathervane.errors import InputError
from weathervane.examine import Record
from weathervane.ledger import Ledger
from weathervane.model import Model, Spec, build
from weathervane.store import Store, seal

ROUNDS = often(1, 8)  # of each payload through each loader
MUTANTS = often(300, 5000)
DENSE = {"network": {"hidden": [8, 8], "dropout": 0.0, "input_size": 8}, "classes": ["rain", "shine"]}


class Deed:
    """Unpickled, it makes a folder: the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def pickled(canary: Path, chance: random.Random) -> bytes:
    """As it comes, or optimised; of any protocol."""
    data = pickle.dumps(Deed(canary), chance.randrange(6))
    return pickletools.optimize(data) if chance.random() < 0.5 else data


def torch_saved(canary: Path, chance: random.Random) -> bytes:
    """What torch.save makes of it: in the place of a state_dict, or of one of its tensors."""
    buffer = io.BytesIO()
    state = {"weight": torch.zeros(2), "bias": Deed(canary)} if chance.random() < 0.5 else Deed(canary)
    torch.save(state, buffer, _use_new_zipfile_serialization=chance.random() < 0.7)
    return buffer.getvalue()


def archived(canary: Path, chance: random.Random) -> bytes:
    """A zip as TorchScript and exported programs (.pt2) are: pickles under the names that their readers look for."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("archive/data.pkl", "archive/constants.pkl", "models/model.json", "data/weights/model.pt"):
            archive.writestr(name, pickled(canary, chance))
        archive.writestr("archive/code/__torch__.py", f"import os\nos.mkdir({str(canary)!r})\n")
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def array_of_objects(canary: Path, chance: random.Random) -> bytes:
    """An .npy whose elements are pickled."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Deed(canary)] * chance.randint(1, 3), object), allow_pickle=True)
    return buffer.getvalue()


def in_a_header(canary: Path, chance: random.Random) -> bytes:
    """A safetensors file with a pickle for a header, or for its metadata."""
    inner = pickled(canary, chance).decode("latin-1")
    header = json.dumps({"__metadata__": {"content": inner, "format": "pickle"}}).encode()
    header = pickled(canary, chance) if chance.random() < 0.5 else header
    return struct.pack("<Q", len(header)) + header


def yaml_tag(canary: Path, chance: random.Random) -> bytes:
    """What unsafe loaders of YAML run."""
    tag = chance.choice(["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"])
    return f"{tag} [{canary}]\n".encode()


def source(canary: Path, chance: random.Random) -> bytes:
    """Python, in case that somebody imports or evaluates it."""
    return f"__import__('os').mkdir({str(canary)!r})\n".encode()


PAYLOADS = (pickled, torch_saved, archived, array_of_objects, in_a_header, yaml_tag, source)


def in_a_model(name: str) -> Callable[[Path, bytes], object]:
    """In the place of a file of a model that else is whole."""

    def load(folder: Path, data: bytes) -> object:
        a_model().save(folder, np.zeros((2, 8, 8, 3), np.uint8))
        (folder / name).write_bytes(data)
        return Model.load(folder).probe_error(folder)

    return load


def as_a_checkpoint(folder: Path, data: bytes) -> object:
    """With a sha256 that fits; weights and the optimiser's state are in it."""
    (folder / "0000000001.safetensors").write_bytes(data)
    (folder / "0000000001.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  x\n")
    return checkpoint.newest(folder)


def as_weights(name: str) -> Callable[[Path, bytes], object]:
    """As somebody's pretrained weights, with the sha256 that the person was told to write down."""

    def load(folder: Path, data: bytes) -> object:
        (folder / name).write_bytes(data)
        return backbone.read(folder / name, hashlib.sha256(data).hexdigest())

    return load


def in_a_store(name: str) -> Callable[[Path, bytes], object]:
    """In the place of a shard or the manifest, sealed as if prepare had written it."""

    def load(folder: Path, data: bytes) -> object:
        import pyarrow as pa
        import pyarrow.parquet as pq

        (folder / "pixels").mkdir()
        pq.write_table(pa.table({"sha256": ["a"], "label": ["rain"]}), folder / "manifest.parquet")
        np.save(folder / "pixels/00000.npy", np.zeros((1, 4, 4, 3), np.uint8))
        (folder / name).write_bytes(data)
        seal(folder)
        store = Store(folder)
        return store.manifest, store.size

    return load


def as_a_ledger(folder: Path, data: bytes) -> object:
    for name in ("dataset.json", "ledger.csv", "quarantine.csv"):
        (folder / name).write_bytes(data)
    return Ledger.read(folder)


def as_params(folder: Path, data: bytes) -> object:
    (folder / "params.yaml").write_bytes(data)
    return params.read(folder / "params.yaml")


def as_a_record(folder: Path, data: bytes) -> object:
    """The cache of what was looked at."""
    (folder / "examined.sqlite").write_bytes(data)
    with Record(folder / "examined.sqlite") as record:
        return record.look(hashlib.sha256(data).hexdigest(), data)


def as_a_photograph(folder: Path, data: bytes) -> object:
    return images.decode(data, 16)


LOADERS: dict[str, Callable[[Path, bytes], object]] = {
    "model.safetensors": in_a_model("model.safetensors"),
    "model.json": in_a_model("model.json"),
    "probe.safetensors": in_a_model("probe.safetensors"),
    "checkpoint": as_a_checkpoint,
    "weights.pt": as_weights("weights.pt"),
    "weights.safetensors": as_weights("weights.safetensors"),
    "shard": in_a_store("pixels/00000.npy"),
    "manifest": in_a_store("manifest.parquet"),
    "ledger": as_a_ledger,
    "params": as_params,
    "record": as_a_record,
    "photograph": as_a_photograph,
}


def a_model() -> Model:
    torch.manual_seed(0)
    network, classes = DENSE["network"], DENSE["classes"]
    assert isinstance(network, dict) and isinstance(classes, list)
    spec = Spec("dnn", "dnn", network, 8, 8, classes, False)
    return Model(build(spec), spec, torch.device("cpu"))


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)
def test_a_payload_does_its_deed_where_it_is_let(payload: Any, tmp_path: Path) -> None:
    """The canary sings in the hands of loaders that execute: otherwise its silence would prove nothing."""
    chance, canary = random.Random(0), tmp_path / "canary"
    data = payload(canary, chance)
    careless: dict[Any, Callable[[], object]] = {
        pickled: lambda: pickle.loads(data),
        torch_saved: lambda: torch.load(io.BytesIO(data), weights_only=False),
        archived: lambda: pickle.loads(zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl")),
        array_of_objects: lambda: np.load(io.BytesIO(data), allow_pickle=True),
        in_a_header: lambda: pickle.loads(pickled(canary, chance)),
        yaml_tag: lambda: Path(data.decode().partition("[")[2].rstrip("]\n")).mkdir(),
        source: lambda: eval(data),
    }
    careless[payload]()
    assert canary.is_dir()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.fault(49, trials=ROUNDS * len(PAYLOADS))
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_that_is_loaded_is_executed(loader: str, tmp_path: Path) -> None:
    """Every payload in the place of everything that is read: no canary sings, and what is refused is refused in words,
    never with a traceback of a library's."""
    chance, canary = random.Random(loader), tmp_path / "canary"
    for number in range(ROUNDS):
        for payload in PAYLOADS:
            folder = tmp_path / f"{payload.__name__} {number}"
            folder.mkdir()
            try:
                LOADERS[loader](folder, payload(canary, chance))
            except (InputError, images.BadImage) as error:
                assert "\n" not in str(error)
            assert not canary.exists(), payload


def flipped(data: bytes, chance: random.Random) -> bytes:
    """The file with bits flipped, cut, extended, or with parts of it moved."""
    out, place = bytearray(data), chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            out[place] ^= 1 << chance.randrange(8)
        case 1:
            del out[place:]
        case 2:
            out[place:place] = chance.randbytes(chance.randint(1, 40))
        case 3:  # the header says where each tensor begins and ends
            place = chance.randrange(min(len(out), 400))
            out[place] = chance.choice(b'0123456789,:[]{}"')
        case 4:
            other = chance.randrange(len(out))
            out[place : place + 8] = out[other : other + 8]
    return bytes(out)


@pytest.mark.fault(50, trials=MUTANTS)
def test_no_other_weights_are_loaded(tmp_path: Path) -> None:
    """A model whose weights were damaged anywhere is refused in one line: no crash, and nothing else is computed."""
    folder, chance = tmp_path / "model", random.Random(0)
    folder.mkdir()
    a_model().save(folder, np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8))
    whole = (folder / "model.safetensors").read_bytes()
    for number in range(MUTANTS):
        data = flipped(whole, chance)
        (folder / "model.safetensors").write_bytes(data)
        if data == whole:
            assert Model.load(folder).probe_error(folder) == 0
            continue
        with pytest.raises(InputError, match="the bytes of model") as told:
            Model.load(folder)
        assert "\n" not in str(told.value), number


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.fault(50, trials=MUTANTS)
@pytest.mark.parametrize("legacy", [True, False], ids=["pickle", "zip"])
def test_damaged_weights_of_torch_are_refused(legacy: bool, tmp_path: Path) -> None:
    """A state_dict that was damaged anywhere, with a sha256 that fits, gives tensors or one line: no traceback."""
    path, chance = tmp_path / "weights.pt", random.Random(0)
    torch.save({"weight": torch.ones(3, 3)}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for number in range(MUTANTS):
        path.write_bytes(flipped(whole, chance))
        try:
            held = backbone.read(path, hashlib.sha256(path.read_bytes()).hexdigest())
        except InputError as error:
            assert "\n" not in str(error), number
        else:
            assert all(isinstance(value, torch.Tensor) for value in held.values())


def sparse(kind: str) -> torch.Tensor:
    """A sparse tensor whose indices lead out of it."""
    values = torch.ones(3)
    with torch.sparse.check_sparse_tensor_invariants(False):
        match kind:
            case "coo":
                return torch.sparse_coo_tensor(torch.tensor([[0, 10**12, -5]]), values, (4,), check_invariants=False)
            case "csr":
                pointers, columns = torch.tensor([0, 9**12, 3]), torch.tensor([0, -(10**12), 7])
                return torch.sparse_csr_tensor(pointers, columns, values, (2, 2), check_invariants=False)
            case _:
                pointers, columns = torch.tensor([0, 2, 10**12]), torch.tensor([0, 10**12, 1])
                return torch.sparse_csc_tensor(pointers, columns, values, (2, 2), check_invariants=False)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")
@pytest.mark.fault(50, trials=3)
def test_malformed_sparse_tensors_are_refused(tmp_path: Path) -> None:
    """A state_dict that torch reads without executing anything may still hold indices that lead out of memory: no
    sparse tensor is taken, and the process goes on."""
    paths = [tmp_path / f"{kind}.pt" for kind in ("coo", "csr", "csc")]
    for path in paths:
        torch.save({"weight": sparse(path.stem)}, path)
    script = (
        "import sys; from pathlib import Path; from weathervane import backbone, files\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    try: backbone.read(path, files.sha256(path))\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", script, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    assert re.fullmatch("(InputError network.weights: .*\n){3}", done.stdout), done.stdout
