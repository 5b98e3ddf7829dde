"""Who met what: a real git, DVC and MLflow, and ledgers whose rows the test chooses."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks import dvc_repo, tracking
from tasks.lineage import find, names_a_model, origin, users
from tasks.reproduce import Reproduction, job_again, reproduce
from tasks.tracking_inventory import Registered, inventory
from weathervane import project as places
from weathervane.errors import InputError
from weathervane.ledger import Ledger, Row

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
WEIGHTS = "w" * 64


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def row(name: str, split: str, fold: int = -1, group: str = "") -> Row:
    """An image whose bytes are its name."""
    path = f"rain/{sha(name)[:16]}.jpg"
    return Row(sha(name), "rain", "inbox", name, 1, group or sha(name)[:12], split, fold, 64, 64, "", path)


class Clone:
    """A project whose data and runs the test makes."""

    def __init__(self, root: Path) -> None:
        self.root, self.client = root, tracking.client(root)
        self.experiment = tracking.experiment(root, "weather")
        self.client.create_registered_model("weather")
        (root / "data/raw.dvc").unlink(missing_ok=True)

    def data(self, *rows: Row) -> str:
        """Data/raw of exactly these images, tracked by DVC; its md5."""
        raw = self.root / places.RAW
        shutil.rmtree(raw, ignore_errors=True)
        ledger = Ledger(raw)
        ledger.dataset, ledger.ingests, ledger.rows = "weather", 1, list(rows)
        for one in rows:
            (raw / one.path).parent.mkdir(parents=True, exist_ok=True)
            (raw / one.path).write_text(one.name)
        ledger.write()
        return dvc_repo.add(self.root, str(places.RAW), {"dataset": "weather"})

    def train(self, md5: str, register: bool = True, status: str = "FINISHED", **tags: str) -> str:
        """A retraining of one variant; the run of that."""
        about = {"kind": "retraining", "data_md5": md5, "prefect_flow_run_id": "f1", "prefect_flow_run": "brave-hen"}
        parent = tracking.start_run(self.root, self.experiment, "retrain 1", about | {"machine": "host"})
        about = {"kind": "variant", "variant": "cnn", "data_md5": md5, "seed": "3", "device": "cpu", "threads": "2"}
        about |= {"ingredient.params": '{"size": 32, "train": {"epochs": 2}}', "ingredient.torch": "2.13.0"}
        run = tracking.start_run(self.root, self.experiment, "cnn", about | tags, parent)
        for one in (run, parent):
            tracking.end_run(self.root, one, status)
        if register:
            told = {"decision": "promoted", "why": "the first champion", "weights_sha256": WEIGHTS}
            self.client.create_model_version("weather", self.client.get_run(run).info.artifact_uri, run, tags=told)
        return run


@pytest.fixture
def clone(project: Path, fresh_database: Path) -> Clone:
    shutil.copy(fresh_database, project)
    return Clone(project)


@pytest.fixture
def head(clone: Clone) -> str:
    return subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=clone.root, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_a_model_is_traced_to_all_that_made_it(clone: Clone, head: str) -> None:
    """The champion's table names its version, data and where its bytes are, commit, parameters, flow run, both runs and
    the decision; the alias, the path of MLflow and the bare number lead to one version."""
    md5 = clone.data(row("a", "train", 0), row("b", "train", 1))
    run = clone.train(md5, git_commit=head, git_dirty="false")
    clone.client.set_registered_model_alias("weather", "champion", "1")
    stock = inventory(clone.root)
    version, *others = (find(stock, text, "weather") for text in ("models:/weather@champion", "models:/weather/1", "1"))
    assert others == [version, version]
    told = origin(clone.root, stock, version)
    parent = stock.runs[run].tags["mlflow.parentRunId"]
    assert told["model"].startswith("weather 1 @champion, variant cnn, registered 2")
    assert told["data"] == f"{md5}, weather, 2 images (2 rain)"
    assert told["its bytes"] == "in DVC's cache here"
    assert told["code"] == f"commit {head}, no uncommitted change of code or params, in this clone"
    assert told["params"] == "size 32, train.epochs 2" and told["seed"] == "3"
    assert told["made with"].startswith("torch 2.13.0, ") and "cpu, 2 threads; machine host" in told["made with"]
    assert (told["flow run"], told["parent run"]) == ("f1 (brave-hen)", f"{parent} (retrain 1)")
    assert (told["child run"], told["weights"]) == (f"{run} (cnn)", f"sha256 {WEIGHTS}")
    assert told["decision"] == "promoted: the first champion" and "by hand" not in told
    clone.client.set_model_version_tag("weather", "1", "by_hand", "promote by anna: wins on the new site")
    told = origin(clone.root, inventory(clone.root), find(inventory(clone.root), "1", "weather"))
    assert told["by hand"] == "promote by anna: wins on the new site"


@pytest.mark.slow
def test_what_is_gone_is_told(clone: Clone) -> None:
    """Data that is nowhere, a commit that another clone has, changes that nobody committed: said, not left out."""
    clone.train("1" * 32 + ".dir", git_commit="2" * 40, git_dirty="true")
    stock = inventory(clone.root)
    told = origin(clone.root, stock, find(stock, "1", "weather"))
    assert told["its bytes"] == "gone: DVC's cache here has not all of them, and no default remote is set"
    assert told["data"].endswith("what is in it is unknown here")
    assert told["code"] == (
        f"commit {'2' * 40}, with uncommitted changes, not in this clone ('git fetch --all' may bring it)"
    )


@pytest.mark.slow
def test_an_image_is_traced_to_the_models_that_met_it(clone: Clone, tmp_path: Path) -> None:
    """By any file with its bytes, its sha256 or the beginning of that: which models were trained, validated or tested
    on it, or on a near-duplicate of it, newest first; a failed run is none."""
    old = clone.data(row("first", "train", 1), row("val", "train", 0), row("test", "test"), row("odd", "excluded"))
    earlier = clone.train(old)
    clone.train(old, register=False, status="FAILED")
    near = row("copy", "train", 1, group=row("first", "train").group)
    new = clone.data(*Ledger.read(clone.root / places.RAW).rows, near)
    later = clone.train(new, register=False)
    photograph = tmp_path / "anywhere.jpg"

    def uses(text: str) -> list[tuple[str, str, str]]:
        return [(use.model, use.data_md5, use.how) for use in users(clone.root, text).uses]

    for name, part in {"val": "validated on", "test": "tested on", "odd": "left out"}.items():
        photograph.write_text(name)
        expected = [(f"run {later}", new, part), ("weather 1", old, part)]
        assert uses(str(photograph)) == uses(sha(name)) == uses(sha(name)[:12]) == expected
    assert [how for *_, how in uses(sha("first"))] == ["trained on; near-duplicates: 1 trained on", "trained on"]
    found = users(clone.root, sha("copy"))
    assert [use.how for use in found.uses] == [
        "trained on; near-duplicates: 1 trained on",
        "near-duplicates: 1 trained on",
    ]
    assert f"near-duplicate group {near.group} of 2 images" in found.what and found.unread == []
    assert "no near-duplicates" in users(clone.root, sha("val")).what

    assert uses(old[:10]) == [("weather 1", old, "1 trained on, 1 validated on, 1 tested on")]
    assert [use.model for use in users(clone.root, new).uses] == [f"run {later}"]
    clone.client.delete_model_version("weather", "1")
    assert uses(old)[0][0] == f"run {earlier}"


@pytest.mark.slow
def test_what_nobody_knows_is_one_line(clone: Clone, tmp_path: Path) -> None:
    """A file, a digest and a model that are not on record, and data that cannot be looked into, are told as such."""
    clone.train(clone.data(row("a", "test")))
    stranger = tmp_path / "stranger.jpg"
    stranger.write_text("stranger")
    for text in (str(stranger), "abcdef0123"):
        with pytest.raises(
            InputError,
            match=r"none of 1 versions of the data is called so or holds such an image; what was quarantined",
        ):
            users(clone.root, text)
    clone.train("1" * 32 + ".dir", register=False)
    with pytest.raises(InputError, match=r"1 more that models had are not in DVC's cache: 'dvc fetch --all-commits'"):
        users(clone.root, str(stranger))
    assert users(clone.root, sha("a")).unread == ["1" * 32 + ".dir"]
    assert [use.how for use in users(clone.root, "1" * 8).uses] == ["in parts that are unknown here"]
    with pytest.raises(InputError, match=r"photo.jpg: no such file, and no model"):
        users(clone.root, "photo.jpg")
    stock = inventory(clone.root)
    with pytest.raises(InputError, match=r"^models:/weather@best: weather has no @best, but the versions 1$"):
        find(stock, "models:/weather@best", "weather")
    with pytest.raises(InputError, match=r"^models:/snow/1: snow has no versions$"):
        find(stock, "models:/snow/1", "weather")
    with pytest.raises(InputError, match=r"^models:/weather: the forms are"):
        find(stock, "models:/weather", "weather")


@pytest.mark.slow
def test_code_that_is_not_on_record_is_not_made_up(clone: Clone, head: str) -> None:
    """Nothing is trained where the tree was dirty, the commit is elsewhere, there was no git, or no retraining
    registered the version: one line each, with the way out."""
    md5 = clone.data(row("a", "train", 0))
    for commit, dirty in ((head, "true"), ("2" * 40, "false"), ("none", "false")):
        clone.train(md5, git_commit=commit, git_dirty=dirty)
    run = clone.train(md5, register=False, git_commit=head, git_dirty="false")
    clone.client.create_model_version("weather", clone.client.get_run(run).info.artifact_uri, run)
    stock = inventory(clone.root)
    for number, why in {
        "1": f"uncommitted changes on commit {head}.*: 'weathervane retrain --variants cnn --data-version {md5}'",
        "2": f"its commit {'2' * 40} is not in this clone: 'git fetch --all'",
        "3": "trained outside of git",
        "4": "no retraining registered it",
    }.items():
        with pytest.raises(InputError, match=f"^weather {number}: .*{why}"):
            reproduce(clone.root, stock, find(stock, number, "weather"))
    assert not list((clone.root / places.WORK).glob("reproduce-*"))


@pytest.mark.parametrize(
    ("weights", "accuracy", "different", "holds"),
    [("same", 0.5, [], True), ("other", 0.9, [], False), ("other", 0.9, ["t"], True), ("other", 0.84, ["t"], False)],
)
def test_only_another_machine_may_differ(weights: str, accuracy: float, different: list[str], holds: bool) -> None:
    """Where all is as it was, the weights must be equal; elsewhere close figures do, and figures further off do not."""
    assert Reproduction(("same", weights), (0.9, accuracy), (0.3, 0.3), different).holds is holds


def test_weights_of_the_persons_own_are_found_from_the_checkout(tmp_path: Path) -> None:
    """A file beside the project that params/models/transfer.yaml names is read from there, in a commit or not."""
    network = {"weights": "weights/net.pth", "sha256": "0" * 64}
    tags = {"variant": "transfer", "ingredient.params": json.dumps({"network": network}), "seed": "0", "device": "cpu"}
    version = Registered("weather", "1", "run", "", 0, {}, [], moved=False)
    job = job_again(tmp_path, version, tags | {"threads": "1"}, tmp_path / "checkout")
    assert job["variant"]["network"]["weights"] == str(tmp_path / "weights/net.pth")


def test_a_short_number_is_a_version() -> None:
    """A number of up to five digits is a version, a longer one the beginning of a hash."""
    assert [names_a_model(text) for text in ("7", "12345", "models:/w@c", "903412", "ab12", "7.jpg")] == [True] * 3 + [
        False
    ] * 3
