"""The model that answers: a registered version's weights, checked before anybody relies on them."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import tracking
from tasks.data import dataset_of
from tasks.lineage import find
from tasks.tracking_inventory import Registered, inventory
from weathervane.errors import InputError
from weathervane.files import sha256
from weathervane.process import settle

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from weathervane.model import Model

PROBE_TOLERANCE = 1e-3  # largest difference of a logit that other threads or another machine explain


@dataclass(frozen=True)
class Answering:
    """A version and its model, on the device."""

    version: Registered
    model: "Model"

    @property
    def uri(self) -> str:
        """By its number, which does not move."""
        return f"models:/{self.version.name}/{self.version.version}"

    @property
    def data(self) -> str:
        """The version of the data that it was trained on."""
        return self.version.tags.get("data_md5", "unknown")


def named(root: Path, what: str) -> Registered:
    """The version that `what` names (models:/weather@champion, models:/weather/7, 7); the champion, if nothing.

    Raises:
        InputError: there is none.
    """
    dataset = dataset_of(root)
    return find(inventory(root), what or f"models:/{dataset}@champion", dataset)


def answering(root: Path, version: Registered, device: str = "auto") -> Answering:
    """A version's model.

    Raises:
        InputError: its run no longer holds it, it computes something else than it did, or the device is not there.
    """
    settle()

    from weathervane.device import choose

    where = choose(device)
    with tempfile.TemporaryDirectory() as folder:
        path = fetched(tracking.client(root), version.run_id, version.version, Path(folder))
        model = checked(path, version.version, version.tags)
    model.net.to(where)
    model.device = where
    return Answering(version, model)


def fetched(client: "MlflowClient", run: str, version: str, folder: Path) -> Path:
    """The files of a version's model, brought to `folder`."""
    if not client.list_artifacts(run, "model"):
        raise InputError(f"run {run} of version {version} no longer holds the model")
    return Path(client.download_artifacts(run, "model", str(folder)))


def checked(path: Path, version: str, tags: dict[str, str]) -> "Model":
    """The model of a folder, if its weights are those that were registered and its logits those that it remembers.

    Args:
        path: the folder.
        version: its number, for messages.
        tags: of the version.

    Raises:
        InputError: it is damaged, other weights, or other logits.
    """
    from weathervane.model import Model

    weights, registered = path / "model.safetensors", tags.get("weights_sha256")
    if registered and weights.is_file() and (found := sha256(weights)) != registered:
        raise InputError(
            f"the weights of version {version} have the sha256 {found}, registered was {registered}: somebody changed "
            "or damaged the artifacts of its run: bring them back from a backup, or promote another version"
        )
    model = Model.load(path)
    error = model.probe_error(path)
    if not error <= PROBE_TOLERANCE:
        commit = model.spec.about.get("git_commit", "unknown")
        raise InputError(
            f"the logits of version {version} on its own probe differ by {error:.2g}: load it with the code of commit "
            f"{commit}"
        )
    return model
