"""Which data may go: real git, DVC and MLflow, and what each of them knows of a version."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import dvc_repo, tracking
from tasks.data_gc import VersionUse, census, collect
from tasks.data_versions import has_bytes, materialise
from tasks.dvc_lock import raw_md5
from tests.conftest import dvc
from weathervane import project as places
from weathervane.errors import InputError
from weathervane.ledger import Ledger

pytestmark = pytest.mark.slow
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
DVC = [sys.executable, "-m", "dvc"]


class Clone:
    """A project with a store, whose data is a few small files."""

    def __init__(self, root: Path) -> None:
        self.root, self.of_the_project = root, str(raw_md5(root))
        for name in ("data/raw.dvc", "dvc.lock"):
            (root / name).unlink(missing_ok=True)

    def data(self, *names: str, dataset: str = "weather") -> str:
        """Data/raw of exactly these files, tracked by DVC; its md5."""
        shutil.rmtree(self.root / places.RAW, ignore_errors=True)
        for name in names:
            path = self.root / places.RAW / "rain" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"bytes of {name}")
        ledger = Ledger(self.root / places.RAW)
        ledger.dataset = dataset
        ledger.ingests = len(names)
        ledger.write()
        return dvc_repo.add(self.root, str(places.RAW), {"dataset": dataset})

    def commit(self) -> None:
        """Data/raw.dvc goes to git."""
        subprocess.run([*GIT, "add", "-f", "data/raw.dvc"], cwd=self.root, check=True)
        subprocess.run([*GIT, "commit", "-qm", "data"], cwd=self.root, check=True)

    def train(self, md5: str, dataset: str = "weather", register: bool = True, status: str = "FINISHED") -> None:
        """A retraining on a version, and a model version of it."""
        client, tags = tracking.client(self.root), {"kind": "retraining", "data_md5": md5}
        run = tracking.start_run(self.root, tracking.experiment(self.root, dataset), "run", tags)
        if register:
            if not client.search_registered_models(f"name = '{dataset}'"):
                client.create_registered_model(dataset)
            client.create_model_version(dataset, client.get_run(run).info.artifact_uri, run)
        if status != "RUNNING":
            tracking.end_run(self.root, run, status)

    def cached(self, name: str) -> bool:
        """True if DVC's cache holds the bytes of a file."""
        content = f"bytes of {name}".encode()
        return any(path.read_bytes() == content for path in (self.root / ".dvc/cache/files/md5").glob("??/*"))


@pytest.fixture
def clone(project: Path, fresh_database: Path) -> Clone:
    shutil.copy(fresh_database, project)
    return Clone(project)


def standing(clone: Clone) -> dict[str, VersionUse]:
    return {one.md5: one for one in census(clone.root).versions}


def test_what_nobody_needs_goes_and_all_else_stays(clone: Clone) -> None:
    """Of seven versions the one that only an unregistered, superseded run names goes, with the files that it alone
    has; today's, a branch's, a tag's, a model's, a dataset's last and that of a run at work stay whole."""
    on_branch = clone.data("a", "branch")
    clone.commit()
    subprocess.run([*GIT, "branch", "other"], cwd=clone.root, check=True)
    tagged = clone.data("a", "tag")
    clone.commit()
    subprocess.run([*GIT, "tag", "v1"], cwd=clone.root, check=True)
    of_a_model = clone.data("a", "model")
    clone.train(of_a_model)
    superseded = clone.data("a", "superseded")
    clone.train(superseded, register=False)
    at_work = clone.data("a", "work")
    clone.train(at_work, register=False, status="RUNNING")
    last_of_other = clone.data("a", "last", dataset="other")
    clone.train(last_of_other, dataset="other", register=False)
    last = clone.data("a", "latest")
    clone.train(last, register=False)
    today = clone.data("a", "today")
    clone.commit()

    found = standing(clone)
    found.pop(clone.of_the_project, None)
    assert {md5: one.needed_by for md5, one in found.items()} == {
        on_branch: ["other"],
        tagged: ["v1"],
        of_a_model: ["weather 1"],
        superseded: [],
        at_work: ["a run at work"],
        last_of_other: ["the last of other"],
        last: ["the last of weather"],
        today: ["today's", "main"],
    }
    assert all(one.cache and one.remote is None for one in found.values())
    before = sorted((clone.root / ".dvc/cache").rglob("*"))
    assert {path.suffix for path in census(clone.root).unneeded} == {"", ".dir"}
    assert sorted((clone.root / ".dvc/cache").rglob("*")) == before

    collect(clone.root)
    assert not clone.cached("superseded") and not has_bytes(clone.root, superseded)
    for name, md5 in {"branch": on_branch, "tag": tagged, "model": of_a_model, "work": at_work, "last": last_of_other,
                      "latest": last, "today": today}.items():  # fmt: skip
        assert clone.cached(name)
        assert (materialise(clone.root, md5) / places.RAW / "rain" / name).is_file()
    assert census(clone.root).unneeded == {}
    done = subprocess.run([*DVC, "status", "data/raw.dvc"], cwd=clone.root, capture_output=True, text=True)
    assert "up to date" in done.stdout, done.stdout


def test_what_was_committed_can_be_returned_to(clone: Clone) -> None:
    """A version that only an older commit names stays, as of a mistaken ingest that was committed and undone; it goes
    where that is asked for."""
    undone = clone.data("a", "undone")
    clone.commit()
    commit = subprocess.check_output([*GIT, "rev-parse", "--short=10", "HEAD"], cwd=clone.root, text=True).strip()
    clone.data("a", "today")
    clone.commit()
    clone.train(undone)
    assert standing(clone)[undone].needed_by == [f"commit {commit}", "weather 1", "the last of weather"]
    assert [one.md5 for one in census(clone.root).endangered] == [undone]  # 'dvc gc' heeds no older commits by itself
    clone.train(clone.data("a", "latest"))
    tracking.client(clone.root).delete_model_version("weather", "1")
    collect(clone.root)
    assert clone.cached("undone") and has_bytes(clone.root, undone)
    collect(clone.root, heads_only=True)
    assert not clone.cached("undone") and clone.cached("today")


def test_where_git_cannot_be_asked_nothing_goes(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that only an older commit names stays where git trusts another user alone, or is not there: refused."""
    committed = clone.data("a", "committed")
    clone.commit()
    clone.data("a", "today")
    clone.commit()
    (bin := tmp_path / "bin").mkdir()
    (bin / "git").write_text("#!/bin/sh\necho fatal: detected dubious ownership >&2\nexit 128\n")
    (bin / "git").chmod(0o755)
    for place, word in ((bin, "detected dubious ownership"), (tmp_path, "No such file")):
        monkeypatch.setenv("PATH", str(place))
        with pytest.raises(InputError, match=f"git cannot read its history: .*{word}"):
            collect(clone.root)
    assert has_bytes(clone.root, committed)


def test_the_models_of_a_teams_server_are_asked_for(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the store of `weathervane up` nobody's word is taken from another: refused, and nothing goes."""
    clone.data("one.jpg"), clone.data("two.jpg")
    (clone.root / places.SERVERS).mkdir()
    (clone.root / places.SERVERS / "mlflow.db").touch()
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI is not set, and servers/ is of 'weathervane up'"):
        collect(clone.root)
    assert clone.cached("one.jpg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone.root / 'mlflow.db'}")
    collect(clone.root)
    assert not clone.cached("one.jpg")


def test_models_of_bare_commands_count_beside_a_server(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked with the address of a team's store, what the clone's own mlflow.db has models of stays as well."""
    clone.train(clone.data("alone.jpg")), clone.data("nobody.jpg"), clone.data("today.jpg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone.root / 'team/mlflow.db'}")
    tracking.client(clone.root)
    collect(clone.root)
    assert clone.cached("alone.jpg") and clone.cached("today.jpg") and not clone.cached("nobody.jpg")


def test_outputs_of_stages_stay(clone: Clone) -> None:
    """What dvc.lock names, in the work tree or at a branch's head, is needed as well as the data itself."""
    clone.data("a")
    pipeline = "stages:\n  copy:\n    cmd: cp data/raw/rain/a out.txt\n    deps: [data/raw]\n    outs: [out.txt]\n"
    (clone.root / "dvc.yaml").write_text(pipeline)
    dvc(clone.root, "repro", "-q")
    (clone.root / "out.txt").unlink()
    assert collect(clone.root).unneeded == {}
    dvc(clone.root, "checkout", "-q")
    assert (clone.root / "out.txt").read_text() == "bytes of a"


@pytest.mark.fault(48)
def test_models_whose_data_dvc_gc_would_take_are_named(clone: Clone) -> None:
    """A model whose data git does not know is endangered by `dvc gc`, and by nothing else; after a `dvc gc` it is told
    that its data is lost."""
    trained_on = clone.data("a", "model")
    clone.train(trained_on)
    clone.data("a", "today")
    clone.commit()
    found = census(clone.root)
    assert [one.md5 for one in found.endangered] == [trained_on] and found.bereft == []
    collect(clone.root)
    assert [one.md5 for one in census(clone.root).endangered] == [trained_on]

    dvc(clone.root, "gc", "-q", "--all-branches", "--all-tags", "--force")
    found = census(clone.root)
    assert found.endangered == []
    (lost,) = found.bereft
    assert (lost.md5, lost.models) == (trained_on, ["weather 1"])


def test_a_remote_that_has_the_bytes_is_as_good(clone: Clone, tmp_path: Path) -> None:
    """What was pushed to the default remote is in no danger and not lost; the remote is left alone."""
    dvc(clone.root, "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    pushed = clone.data("a", "pushed")
    dvc_repo.push(clone.root)
    clone.train(pushed)
    superseded = clone.data("a", "superseded")
    dvc_repo.push(clone.root)
    clone.data("a", "today")
    found = standing(clone)
    assert [found[md5].remote for md5 in (pushed, superseded)] == [True, True]
    assert census(clone.root).endangered == []
    remote = sorted((tmp_path / "remote").rglob("*"))
    collect(clone.root)
    assert not clone.cached("superseded") and sorted((tmp_path / "remote").rglob("*")) == remote
    shutil.rmtree(clone.root / ".dvc/cache")
    found = standing(clone)
    assert (found[pushed].cache, found[pushed].remote) == (False, True)
    assert [one for one in census(clone.root).bereft if one.md5 == pushed] == []


def test_a_remote_that_cannot_be_asked_is_told(clone: Clone) -> None:
    """Whether a model's data is lost is not guessed: what the remote lacks is named."""
    clone.data("a")
    dvc(clone.root, "remote", "add", "-q", "-d", "store", "gs://bucket/data")
    with pytest.raises(InputError, match=r"^DVC's remote: .*dvc-gs"):
        census(clone.root)


@pytest.mark.parametrize("kind", ["gs://bucket/data", "s3://bucket/data"])
def test_what_goes_wrong_with_a_remote_is_told_in_words(
    kind: str, clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is missing, or credentials: whoever brings data there or back says so, data that may be there is
    not called lost, and what DVC's cache has is not asked for."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    nothing = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    for name, value in (nothing | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, str(tmp_path / value) if name in nothing else value)
    md5, root = clone.data("a"), clone.root
    dvc(root, "remote", "add", "-q", "-d", "far", kind)
    for work in (dvc_repo.push, lambda root: dvc_repo.push_version(root, md5)):
        with pytest.raises(InputError, match=r"^DVC's remote"):
            work(root)
    shutil.rmtree(root / places.RAW)
    brought = dvc_repo.fetch(root, str(places.RAW))  # or False, for who looks into the cache next
    assert brought or has_bytes(root, md5)
    shutil.rmtree(root / places.RAW, ignore_errors=True)
    shutil.rmtree(root / ".dvc/cache")
    with pytest.raises(InputError, match=r"^DVC's remote"):
        dvc_repo.fetch(root, str(places.RAW))
    with pytest.raises(InputError, match=r"^DVC's remote"):
        dvc_repo.fetch_version(root, md5)


def test_a_shared_cache_is_left_alone(clone: Clone, tmp_path: Path) -> None:
    """A cache outside of the project may hold what other projects need: refused."""
    clone.data("a")
    dvc(clone.root, "cache", "dir", "-q", str(tmp_path / "shared"))
    with pytest.raises(InputError, match="other projects may share: see 'dvc gc --projects'"):
        collect(clone.root)
