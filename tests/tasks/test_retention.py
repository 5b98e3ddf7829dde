"""What `weathervane clean` removes and what it keeps, in real stores whose runs have grown old."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest

from tasks import retention, tracking
from tasks.data_versions import CACHE
from tasks.locks import BACKUP, REPRODUCE, lock
from tasks.plan import make_plan, read_variants
from tasks.retention import BEGUN, Retention, Survey, clean, limits, survey
from tasks.tags import CLEANED, WAITING
from tasks.tracking_inventory import Registered, RunRecord, _by_client, _from_sqlite, inventory
from tests.conftest import copy_project
from tests.tasks.test_plan import plan_of, record
from weathervane.errors import InputError
from weathervane.ledger import Ledger
from weathervane.open_files import hold
from weathervane.params import check

DAY = 86_400
WEATHER = "weather"


class Store:
    """A project with a store of its own, in which retrainings are recorded as the flow leaves them."""

    def __init__(self, root: Path) -> None:
        self.root = copy_project(root)
        self.client = tracking.client(root)
        self.experiment = tracking.experiment(root, WEATHER)

    def run(self, kind: str, status: str = "FINISHED", **tags: str) -> str:
        """A run with an artifact, a metric and a parameter."""
        about = {"kind": kind, "data_md5": "1" * 32 + ".dir", **{key.replace("__", "."): v for key, v in tags.items()}}
        run: str = self.client.create_run(self.experiment, tags=about).info.run_id
        self.client.log_text(run, "weights", "model/model.safetensors")
        self.client.log_metric(run, "val/accuracy", 0.5)
        self.client.log_param(run, "seed", "0")
        if status != "RUNNING":
            tracking.end_run(self.root, run, status)
        return run

    def retraining(self, status: str = "FINISHED", child: str = "FINISHED", **tags: str) -> tuple[str, str]:
        """A retraining of one variant: parent and child."""
        parent = self.run(
            "retraining", status, **({"decision": "not promoted"} if status == "FINISHED" else {}), **tags
        )
        return parent, self.run("variant", child, mlflow__parentRunId=parent, variant="cnn")

    def version(
        self, run: str, decision: str = "not promoted", name: str = WEATHER, experiment: str | None = None
    ) -> str:
        """A model that the run logged, registered."""
        model = self.client.create_logged_model(experiment or self.experiment, "candidate", run).model_id
        folder = self.root / ".weathervane/made"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "MLmodel").write_text("flavors: {}")
        self.client.log_model_artifacts(model, str(folder))
        self.client.finalize_logged_model(model, "READY")
        shutil.rmtree(folder)
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        tags = {"decision": decision}
        made = self.client.create_model_version(name, f"models:/{model}", run, tags=tags, model_id=model)
        return str(made.version)

    def grow_old(self, days: int = 100) -> None:
        """Whatever happened in this store so far happened so many days earlier."""
        by = days * DAY * 1000
        database = sqlite3.connect(self.root / "mlflow.db")
        database.execute("UPDATE runs SET start_time = start_time - ?, end_time = end_time - ?", (by, by))
        database.execute("UPDATE model_versions SET creation_time = creation_time - ?", (by,))
        database.commit()
        database.close()

    def files(self, run: str) -> list[str]:
        """Names of all artifacts of a run, and of the models that it logged."""
        held = inventory(self.root).runs[run]
        folders = [Path(held.artifacts), *map(Path, held.models.values())]
        return sorted(path.name for folder in folders for path in folder.rglob("*") if path.is_file())

    def versions(self) -> set[str]:
        return {version.version for version in inventory(self.root).versions}


@pytest.fixture
def store(tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    mlflow.set_tracking_uri(None)  # other tests of this process have told MLflow of other places
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")  # it looks models up there
    shutil.copy(fresh_database, tmp_path)
    return Store(tmp_path)


@pytest.fixture
def older(store: Store) -> Retention:
    """The ages that the project comes with."""
    return limits(store.root, None)


def runs_of(found: Survey) -> set[str]:
    return {run.run_id for run in found.targets(RunRecord)}


def versions_of(found: Survey) -> set[str]:
    return {version.version for version in found.targets(Registered)}


def test_what_nobody_needs_goes_and_says_so(store: Store, older: Retention) -> None:
    """Of an old retraining that came to nothing go artifacts, model and version; metrics, parameters and tags stay,
    and the run says when. What only shows changes nothing. A second time there is nothing to do."""
    parent, child = store.retraining()
    version = store.version(child)
    store.grow_old()
    store.retraining()
    found = survey(store.root, older)
    assert (runs_of(found), versions_of(found)) == ({parent, child}, {version})
    assert store.files(child) == ["MLmodel", "model.safetensors"] and store.versions() == {version}
    assert sum(one.bytes for one in found.removable) == 2 * len("weights") + len("flavors: {}")

    done, failures = clean(store.root, older)
    assert (runs_of(done), failures) == ({parent, child}, [])
    assert store.files(child) == store.files(parent) == [] and store.versions() == set()
    data = store.client.get_run(child).data
    assert data.metrics == {"val/accuracy": 0.5} and data.params == {"seed": "0"} and data.tags["variant"] == "cnn"
    assert data.tags[CLEANED] == time.strftime("%Y-%m-%d", time.gmtime())
    assert survey(store.root, older) == Survey()


def test_what_is_young_stays(store: Store, older: Retention) -> None:
    """Ninety days are ninety days; a version that was registered of an old run yesterday keeps the run."""
    _, young = store.retraining()
    store.grow_old(89)
    assert survey(store.root, older).removable == []
    store.grow_old(2)
    store.version(young)
    store.retraining()
    assert runs_of(survey(store.root, older)) == set()


@pytest.mark.parametrize("how", ["alias", "decision", "waiting", "recorded move", "registered under another name"])
def test_a_champion_keeps_what_it_needs(store: Store, older: Retention, how: str) -> None:
    """A version that is champion, ever was, waits to be or was named by a person stays, with its run, its model and its
    parent."""
    parent, child = store.retraining()
    name = "favourite" if how == "registered under another name" else WEATHER
    version = store.version(child, {"decision": "promoted", "waiting": WAITING}.get(how, "not promoted"), name)
    if how == "alias":
        store.client.set_registered_model_alias(WEATHER, "champion", version)
    if how == "recorded move":
        store.client.set_registered_model_tag(WEATHER, "move.1", '{"start": "1", "to": "2", "best": "2"}')
    other = store.retraining()
    store.grow_old()
    store.retraining()
    found, failures = clean(store.root, older)
    assert (runs_of(found), failures) == (set(other), [])
    assert store.files(child) == ["MLmodel", "model.safetensors"] and store.files(parent) == ["model.safetensors"]
    assert store.versions() == {version}
    assert found.kept[f"of model version {inventory(store.root).versions[0]}"] == 2


def test_what_nothing_to_do_rests_on_stays(store: Store, older: Retention) -> None:
    """The last settled retraining, and the runs that it took over from earlier ones, stay however old they are: without
    them everything would be trained again."""
    _, before = store.retraining()
    gone = store.retraining()
    last = store.retraining(reused_runs=before)
    store.version(last[1])
    failed = store.retraining("FAILED", "FAILED")
    store.grow_old()
    found, _ = clean(store.root, older)
    assert runs_of(found) >= {*gone, *failed} and not runs_of(found) & {*last, before}
    assert store.versions() == {"1"}


def test_a_deleted_retraining_settles_nothing(store: Store, older: Retention) -> None:
    """Where somebody deleted the newest retraining in MLflow's pages, 'nothing to do' rests on the one before, which
    stays; the deleted one goes."""
    store.retraining()
    deleted = store.retraining()
    for run in deleted:
        store.client.delete_run(run)
    store.grow_old()
    assert runs_of(survey(store.root, older)) == set(deleted)


def test_a_failed_retraining_settles_nothing(store: Store, older: Retention) -> None:
    """A retraining that failed after its decision does not keep its runs; the finished one before it does."""
    store.retraining()
    failed = store.retraining("FAILED", "FAILED", decision="not promoted")
    store.grow_old()
    assert runs_of(survey(store.root, older)) == set(failed)


def test_what_is_at_work_stays(store: Store, older: Retention) -> None:
    """A retraining or a cross-validation that has been running for a hundred days keeps all of its runs, and those that
    it builds on."""
    _, taken_over = store.retraining()
    _, gone = store.retraining()
    running = store.retraining("RUNNING", reused_runs=taken_over)
    compared = store.run("variant")
    store.run("crossval", "RUNNING", reused_runs=compared)
    alone = store.run("variant", "RUNNING")
    store.grow_old()
    store.retraining()
    found = runs_of(survey(store.root, older))
    assert gone in found and not found & {*running, taken_over, alone, compared}


def test_other_peoples_runs_stay(store: Store, older: Retention) -> None:
    """In a store that others use, too, nothing is touched that is no retraining of ours."""
    notebook = store.client.create_run(store.experiment).info.run_id
    store.client.log_text(notebook, "text", "notes.txt")
    tracking.end_run(store.root, notebook)
    elsewhere = store.client.create_run(tracking.experiment(store.root, "other"), tags={"kind": "sort"}).info.run_id
    store.client.log_text(elsewhere, "text", "notes.txt")
    tracking.end_run(store.root, elsewhere)
    store.grow_old()
    clean(store.root, older)
    for run in (notebook, elsewhere):
        assert [info.path for info in store.client.list_artifacts(run)] == ["notes.txt"]
        assert CLEANED not in store.client.get_run(run).data.tags


def test_runs_deleted_in_mlflow_give_their_bytes_back(store: Store, older: Retention) -> None:
    """What somebody deleted in MLflow's pages, which frees nothing, is emptied once it is old."""
    deleted = store.run("variant")
    store.client.delete_run(deleted)
    assert survey(store.root, older).removable == []
    store.grow_old()
    found, failures = clean(store.root, older)
    assert (runs_of(found), failures, store.files(deleted)) == ({deleted}, [], [])
    assert survey(store.root, older).removable == []


def test_what_a_killed_clean_began_is_finished(store: Store, older: Retention) -> None:
    """A run that is marked as begun and still has its files is emptied by the next `clean`, which says when."""
    _, child = store.retraining()
    store.client.set_tag(child, CLEANED, f"{BEGUN}2026-01-01")
    store.grow_old()
    store.retraining()
    clean(store.root, older)
    assert store.files(child) == []
    assert store.client.get_run(child).data.tags[CLEANED] == time.strftime("%Y-%m-%d", time.gmtime())


def test_a_store_that_fails_on_one_run_goes_on_with_the_others(
    store: Store, older: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a bucket raises is told with the run, which stays marked as begun; the other runs are emptied."""
    parent, child = store.retraining()
    store.grow_old()
    store.retraining()
    real = retention._empty

    def failing(root: Path, run: RunRecord) -> None:
        if run.run_id == parent:
            raise RuntimeError("bucket")
        real(root, run)

    monkeypatch.setattr(retention, "_empty", failing)
    _, failures = clean(store.root, older)
    assert failures == [f"run {parent}: bucket"] and store.files(child) == [] and store.files(parent)
    assert store.client.get_run(parent).data.tags[CLEANED].startswith(BEGUN)


def aged(path: Path, days: float, content: str = "x") -> Path:
    """A file that was last written so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))
    for folder in list(path.parents)[:2]:
        os.utime(folder, (moment, moment))
    return path


def test_leftovers_go_by_their_age(store: Store, older: Retention) -> None:
    """Half-written files, staging folders, old logs, quarantined bytes and training folders go; the newer ones, those
    of a run or a server at work, and everything else in .weathervane and data/ stay."""
    work = store.root / ".weathervane"
    running, finished = store.run("variant", "RUNNING"), store.run("variant")
    goes = [
        aged(work / "ingest-123/a", 8),
        aged(work / "aside-123/rain/a.jpg", 8),
        aged(work / "ingest/a", 8),
        aged(work / ".last.json.77.part", 8),
        aged(work / "downloads/photographs.zip.part", 8),
        aged(store.root / "data/prepared/.manifest.parquet.77.part", 8),
        aged(work / "quarantine/0123", 91),
        aged(work / "logs/server.log", 31),
        aged(work / "training/cnn-1/job.json", 8, f'{{"about": {{"mlflow_run_id": "{finished}"}}}}'),
        aged(work / "training/cnn-2/log.txt", 8),
    ]
    stays = [
        aged(work / "ingest-124/a", 6),
        aged(work / "ingest.json", 1000),
        aged(work / "locks/data.lock", 1000),
        aged(work / "downloads/photographs.zip", 1000),
        aged(work / "quarantine/4567", 89),
        aged(work / "logs/new.log", 29),
        aged(work / "training/dnn-1/job.json", 1000, f'{{"about": {{"mlflow_run_id": "{running}"}}}}'),
        aged(work / "versions/0123/data/raw/a", 1000),
        aged(store.root / "data/raw/rain/a.jpg", 1000),
    ]
    stays.append(aged(work / "logs/worker.log", 1000))
    with stays[-1].open("ab") as log:
        hold(log)
        worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=log)
    clean(store.root, older)
    worker.communicate(b"\n", timeout=60)
    assert [path for path in goes if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []
    assert not (work / "ingest-123").exists() and not (work / "training/cnn-1").exists()
    assert not list(work.glob("gone-*"))


def test_a_folder_with_one_young_file_stays(store: Store, older: Retention) -> None:
    """A folder with a new file stays, however old the others in it are and whichever is looked at last."""
    work = store.root / ".weathervane"
    for number in (1, 2, 3):
        aged(work / f"ingest-{number}/a/a", 8)
        aged(work / f"ingest-{number}/b/b", 8)
        (work / f"ingest-{number}" / "ab"[number % 2] / "new").touch()
    clean(store.root, older)
    assert len(list(work.glob("ingest-*"))) == 3


def test_a_link_is_removed_and_what_it_leads_to_stays(store: Store, older: Retention, tmp_path: Path) -> None:
    """Of a staging folder that was moved to another disk the link goes, and the files behind it stay."""
    work = store.root / ".weathervane"
    kept = aged(tmp_path / "elsewhere/a", 1000)
    work.mkdir(exist_ok=True)
    (work / "ingest-7").symlink_to(kept.parent)
    os.utime(work / "ingest-7", (1, 1), follow_symlinks=False)
    clean(store.root, older)
    assert kept.exists() and not (work / "ingest-7").is_symlink()


def test_a_database_that_rests_is_no_leftover(store: Store, older: Retention) -> None:
    """The half database that a killed first start left goes; mlflow.db, copies of it from before a migration, and
    photographs whose names look like half-written files stay, however long nobody wrote to them."""
    half = aged(store.root / "mlflow.db.new", 1000)
    stays = [aged(store.root / name, 1000) for name in ("mlflow.db.before-20260101-000000", "data/raw/rain/a.part.jpg")]
    os.utime(store.root / "mlflow.db", (1, 1))
    found = survey(store.root, older).targets(Path)
    assert half in found and not set(found) & {*stays, store.root / "mlflow.db"}


@pytest.mark.parametrize(
    ("name", "folder"), [(REPRODUCE, "reproduce-weather-1"), (BACKUP, "backup-abc"), (BACKUP, "restore-abc")]
)
def test_a_folder_that_another_process_works_in_stays(store: Store, older: Retention, name: str, folder: str) -> None:
    """`reproduce`, `backup` and `restore` at work keep theirs, however old; what they left behind goes."""
    path = aged(store.root / ".weathervane" / folder / "a", 1000)
    with lock(store.root, name):
        found, _ = clean(store.root, older)
        assert path.exists() and path.parent not in found.targets(Path)
    found, _ = clean(store.root, older)
    assert not path.parent.exists() and path.parent in found.targets(Path)


def version_of(store: Store, digit: str) -> Path:
    """An old materialised version whose only file DVC's cache holds, too."""
    folder = store.root / ".weathervane/versions" / (digit * 32)
    aged(folder / "data/raw/a.jpg", 1000)
    listing = f'[{{"relpath": "a.jpg", "md5": "{digit * 31}f"}}]'
    aged(store.root / CACHE / (digit * 2) / f"{digit * 30}.dir", 1, listing)
    aged(store.root / CACHE / (digit * 2) / f"{digit * 29}f", 1)
    os.utime(folder, (1, 1))
    return folder


def test_versions_go_where_the_cache_has_them_and_nobody_uses_them(store: Store, older: Retention) -> None:
    """A materialised version goes once nobody uses it; it stays while it is the last copy, while a run at work trains
    on it, and while `reproduce` is at work."""
    gone, in_use, last_copy = (version_of(store, digit) for digit in "234")
    (store.root / CACHE / "44" / f"{'4' * 29}f").unlink()
    store.run("variant", "RUNNING", data_md5="3" * 32 + ".dir")
    with lock(store.root, REPRODUCE):
        clean(store.root, older)
        assert gone.exists()
    clean(store.root, older)
    assert not gone.exists() and in_use.exists() and last_copy.exists()


def test_a_removal_that_is_interrupted_leaves_no_half_folder(
    store: Store, older: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A materialised version is renamed before its first file goes, because half of one would pass for a whole one."""
    folder = version_of(store, "2")
    aged(folder / "data/raw/b.jpg", 1000)
    os.utime(folder, (1, 1))

    def torn(path: Path) -> None:
        next(one for one in Path(path).rglob("*") if one.is_file()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(shutil, "rmtree", torn)
        clean(store.root, older)
    assert not folder.exists()


def with_prepared_data(store: Store) -> None:
    """Prepared data is on record, so that retrainings can be planned."""
    outs = [{"path": "data/prepared/pixels", "hash": "md5", "md5": "1" * 32 + ".dir"}]
    lock = {"schema": "2.0", "stages": {"prepare": {"cmd": "python -m weathervane.prepare", "outs": outs}}}
    (store.root / "dvc.lock").write_text(json.dumps(lock))
    ledger = Ledger(store.root / "data/raw")
    ledger.dataset = WEATHER
    ledger.write()


def test_an_emptied_run_is_trained_again_when_it_is_asked_for(store: Store, older: Retention) -> None:
    """A variant whose model is gone does not stand as trained: it could neither be registered nor be compared."""
    with_prepared_data(store)
    parent, children = record(store.root, plan_of(store.root))
    store.client.log_text(children["cnn"], "weights", "model/model.safetensors")
    store.grow_old()
    assert plan_of(store.root).nothing_to_do
    record(store.root, plan_of(store.root, ["train.epochs=4"]))
    assert runs_of(clean(store.root, older)[0]) == {parent, children["cnn"]}
    (candidate,) = plan_of(store.root).to_train
    assert candidate.why == "--set: train.epochs 4 → 3"


def test_runs_of_the_variants_as_they_stand_stay(store: Store, older: Retention) -> None:
    """A run whose variant is unchanged stays, also if a retraining trained it that is not the last one, as 'nothing to
    do' is answered from it; a run of other parameters goes."""
    with_prepared_data(store)
    as_they_stand = make_plan(store.root, read_variants(store.root, ["cnn"], []), seed=0)
    runs = [record(store.root, plan)[1]["cnn"] for plan in (as_they_stand, plan_of(store.root))]
    for run in runs:
        store.client.log_text(run, "weights", "model/model.safetensors")
    store.grow_old()
    record(store.root, plan_of(store.root, ["train.epochs=4"]))
    found = runs_of(survey(store.root, older))
    assert runs[0] not in found and runs[1] in found


@pytest.mark.parametrize(("text", "stands_for"), [("24h", 1), ("90d", 90), ("12w", 84), ("0h", 0)])
def test_ages_are_written_as_people_write_them(text: str, stands_for: int) -> None:
    """Hours, days and weeks."""
    assert limits(Path(), text).results == limits(Path(), text).logs == timedelta(days=stands_for)


@pytest.mark.parametrize("text", ["", "90", "90 d", "-1d", "1.5d", "90D", "90days", "1d2h", "٣d", "999999999d"])
def test_another_form_is_refused(text: str) -> None:
    """Something that might be meant otherwise never decides what is removed."""
    with pytest.raises(InputError, match=r"^--older-than .*: the form is 24h, 90d or 12w$"):
        limits(Path(), text)
    with pytest.raises(InputError, match=r"^retention.yaml: 'results' is .*the form is 24h, 90d or 12w"):
        ages = dict.fromkeys(Retention.model_fields, "1d")
        check(Retention, ages | {"results": text}, "retention.yaml")


def test_both_readers_see_the_same_store(store: Store) -> None:
    """mlflow.db by its tables, without MLflow, and by MLflow's own client: the same runs, models and versions.

    The tables are MLflow's own affair: this is where a new MLflow that changes them is noticed.
    """
    _, first = store.retraining(note="it's 100 % `ü`")
    store.retraining("RUNNING")
    store.client.delete_run(store.run("variant", "FAILED"))
    gone = store.version(first)
    kept = [store.version(first), store.version(first, name="favourite", experiment="0")]
    store.client.delete_model_version(WEATHER, gone)
    store.client.set_registered_model_alias(WEATHER, "champion", kept[0])
    store.client.set_registered_model_tag(WEATHER, "move.1", '{"start": "", "to": "2", "best": "2"}')
    store.client.create_run(tracking.experiment(store.root, "other"), tags={"kind": "sort"})
    ours, theirs = _from_sqlite(store.root / "mlflow.db"), _by_client(store.root)
    for mine, its in zip(ours[:2], theirs[:2], strict=True):
        assert sorted(map(str, mine)) == sorted(map(str, its))
    assert sorted(ours[2]) == sorted(theirs[2])
    assert [len(found) for found in ours] == [5, 2, 3]
    assert [version.moved for version in ours[1] if version.name == WEATHER] == [True]


def test_where_nothing_was_tracked_nothing_goes(tmp_path: Path) -> None:
    """A fresh clone has nothing to clean, and cleaning makes no database."""
    root = copy_project(tmp_path)
    assert clean(root, limits(root, "0h")) == (Survey(), [])
    assert not (root / "mlflow.db").exists()


@pytest.mark.slow
def test_a_killed_clean_leaves_nothing_half(store: Store, older: Retention) -> None:
    """SIGKILL at random moments, until one gets through: whatever version is still there has its model and its run's
    files whole, and whatever run has lost some of them says so."""
    old = [run for _ in range(2) for run in store.retraining()]
    for run in old[1::2]:
        store.version(run)
    store.grow_old()
    store.retraining()

    database, rng, killed, ended = store.root / "mlflow.db", random.Random(0), 0, False
    while not ended:
        before, process = database.stat().st_mtime_ns, os.fork()
        if process == 0:
            tracking.client_of.cache_clear()
            clean(store.root, older)
            os._exit(0)
        while database.stat().st_mtime_ns == before and not ended:
            time.sleep(0.001)
            ended = os.waitpid(process, os.WNOHANG)[0] != 0
        if not ended:
            time.sleep(rng.random() * 0.03)
            os.kill(process, signal.SIGKILL)
            ended = not os.WIFSIGNALED(os.waitpid(process, 0)[1])
            killed += not ended
        stock = inventory(store.root)
        for run in old:
            assert "model.safetensors" in store.files(run) or CLEANED in stock.runs[run].tags
        for version in stock.versions:
            assert store.files(version.run_id) == ["MLmodel", "model.safetensors"]
    assert killed
    assert store.versions() == set() and not any(store.files(run) for run in old)
    assert not any(run.tags.get(CLEANED, "").startswith("begun") for run in inventory(store.root).runs.values())


def test_versions_of_another_registry_are_known(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLFLOW_REGISTRY_URI names another store, what is registered there is of this project all the same, and
    `clean` leaves its files."""
    shutil.copy(store.root / "mlflow.db", tmp_path / "registry.db")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/registry.db")
    elsewhere = mlflow.MlflowClient(f"sqlite:///{store.root}/mlflow.db", f"sqlite:///{tmp_path}/registry.db")
    _, run = store.retraining()
    elsewhere.create_registered_model(WEATHER)
    elsewhere.create_model_version(WEATHER, f"runs:/{run}/model", run)
    elsewhere.set_registered_model_alias(WEATHER, "champion", "1")
    tracking.client_of.cache_clear()
    assert [(one.version, one.aliases) for one in inventory(store.root).versions] == [("1", ["champion"])]
    tracking.client_of.cache_clear()
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert inventory(store.root).versions == []


@pytest.fixture
def served(tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A project that tracks to a server which keeps the artifacts itself."""
    shutil.copy(fresh_database, tmp_path / "server.db")
    import socket
    import urllib.request

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "kept"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            break
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    try:
        (tmp_path / "project").mkdir()
        yield Store(tmp_path / "project")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_a_server_is_cleaned_through_its_own_door(served: Store, tmp_path: Path) -> None:
    """With a server that keeps the artifacts itself, the files go from its disk; champion and others keep theirs."""

    def on_disk() -> set[str]:
        return {part for path in (tmp_path / "kept").rglob("*") if path.is_file() for part in path.parts}

    gone = served.retraining()
    served.version(gone[1])
    champion = served.retraining()
    version = served.version(champion[1])
    served.client.set_registered_model_alias(WEATHER, "champion", version)
    last = served.retraining()
    older = limits(served.root, "0h")
    time.sleep(0.1)
    found = survey(served.root, older)
    assert runs_of(found) == set(gone) and sum(one.bytes for one in found.removable) > 2 * len("weights")
    assert {*gone, *champion, *last} <= on_disk()
    _, failures = clean(served.root, older)
    assert failures == []
    assert not on_disk() & set(gone) and {*champion, *last} <= on_disk()
    assert served.versions() == {version}
    assert served.client.get_run(gone[1]).data.tags[CLEANED]
    assert survey(served.root, older).removable == []
