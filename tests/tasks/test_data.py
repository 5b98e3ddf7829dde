"""The data steps with a real DVC repository: versions, other datasets, damage."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import crossval, retrain
from flows.edit_ingest import edited
from flows.retrain_command import Request, run_retrain
from tasks import data, data_versions, tracking
from tasks.data_gc import census
from tasks.dvc_lock import md5, raw_md5
from tasks.locks import retrain_lock
from tasks.tags import OLDER
from tasks.train import How
from tests.conftest import Here
from tests.noise import photograph
from tests.rows import often
from weathervane.errors import InputError
from weathervane.ledger import FILES, Ledger
from weathervane.store import changed

pytestmark = pytest.mark.slow
DAMAGED = often(2, 50)


def fill(folder: Path, label: str, seeds: range) -> None:
    """Photographs of a class in a folder of class folders."""
    (folder / label).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / label / f"{label}{seed}.jpg").write_bytes(photograph(seed, 160, 120))


def use(project: Path, folder: Path, dataset: str) -> None:
    """Point the project's params at a folder."""
    text = (project / "params/ingest.yaml").read_text()
    head, tail = text.split("sources:")[0], text[text.index("test_fraction") :]
    head = "\n".join(line for line in head.splitlines() if not line.startswith("dataset:"))
    sources = f"sources:\n- kind: local\n  path: {folder}\n"
    (project / "params/ingest.yaml").write_text(f"{head}\ndataset: {dataset}\n{sources}{tail}")


@pytest.fixture
def inbox(project: Path, tmp_path: Path) -> Path:
    """A folder with two classes of 12, and a project that takes from it."""
    folder = tmp_path / "inbox"
    fill(folder, "rain", range(0, 12))
    fill(folder, "sun", range(100, 112))
    use(project, folder, "weather")
    for name in ("data/raw.dvc", "dvc.lock"):
        (project / name).unlink(missing_ok=True)
    return folder


def test_growth_makes_a_version_and_moves_nobody(project: Path, inbox: Path) -> None:
    """Images dropped into the inbox make a new version; every earlier image keeps its place; diff counts them."""
    first = data.ingest_and_record(project)
    before = {row.sha256: (row.split, row.fold) for row in Ledger.read(project / "data/raw").rows}
    fill(inbox, "rain", range(12, 20))
    second = data.ingest_and_record(project)
    after = {row.sha256: (row.split, row.fold) for row in Ledger.read(project / "data/raw").rows}
    assert first != second and len(after) == 32
    assert {sha: after[sha] for sha in before} == before
    assert str(data_versions.difference(project, first, second)) == "8 images added to rain"
    assert data.ingest_and_record(project) == second


def test_an_older_version_comes_back_beside_the_work_tree(project: Path, inbox: Path) -> None:
    """A version named by the beginning of its md5 or a git revision is prepared in its own folder, and anew if a file
    there changed; data/raw stays."""
    first = data.ingest_and_record(project)
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-qm", "first"], cwd=project, check=True)
    fill(inbox, "rain", range(12, 20))
    second = data.ingest_and_record(project)
    for name in (first[:8], "HEAD"):
        home = data.prepared_version(project, name)
        assert home is not None and md5(home / "data/raw") == first
        assert (home / "data/prepared/manifest.parquet").is_file()
    assert data.prepared_version(project, second[:8]) is None
    assert md5(project / "data/raw") == second
    shard = home / "data/prepared/pixels/00000.npy"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert changed(home / "data/prepared") == "pixels/00000.npy"
    data.prepared_version(project, first)
    assert changed(home / "data/prepared") is None
    with pytest.raises(InputError, match="weathervane data versions"):
        data.prepared_version(project, "0000")


def test_a_version_on_record_but_not_on_disk_is_not_todays(
    project: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `git pull` data/raw.dvc names a version that data/raw does not hold yet: asked for by its md5, what is
    prepared and read is that version, not what lies on disk."""
    monkeypatch.chdir(project)
    tracked = project / "data/raw.dvc"
    first = data.ingest_and_record(project)
    old = tracked.read_bytes()
    fill(inbox, "rain", range(12, 20))
    second = data.ingest_and_record(project)
    data.prepare_and_record(project)
    tracked.write_bytes(old)
    home = data.prepared_version(project, first)
    assert home is not None and md5(home / "data/raw") == first != md5(project / "data/raw") == second
    data.raw_copy.cache_clear()
    assert data.raw_copy(project, first) == home / "data/raw"
    assert data.prepared_copy(project, first) == home / "data/prepared"


def test_a_version_that_git_brought_is_the_one_to_go_on_from(project: Path, inbox: Path) -> None:
    """After `git pull` data/raw.dvc names a version with images that this clone's sources never had: data/raw becomes
    that version, out of the cache, and data/raw.dvc stays. Where it cannot be had, or images that nobody has recorded
    would be lost, that is told, and nothing changes."""
    tracked, ledger = project / "data/raw.dvc", project / "data/raw/ledger.csv"
    old = data.ingest_and_record(project)
    older = tracked.read_text()
    fill(inbox, "rain", range(40, 44))
    new = data.ingest_and_record(project)
    newer = tracked.read_text()
    tracked.write_text(older)
    assert data.ingest_and_record(project) == new  # an ingest that was killed before DVC had recorded it

    for number in range(40, 44):
        (inbox / f"rain/rain{number}.jpg").unlink()
    shutil.rmtree(project / "data/raw")
    tracked.write_text(older)
    assert data.ingest_and_record(project) == old
    tracked.write_text(newer)
    assert data.ingest_and_record(project) == new == md5(project / "data/raw")
    assert len(Ledger.read(project / "data/raw").rows) == 28 and raw_md5(project) == new

    shutil.rmtree(project / "data/raw")
    tracked.write_text(older)
    data.ingest_and_record(project)
    fill(inbox, "sun", range(140, 142))
    unrecorded, held = data.ingest_and_record(project), ledger.read_bytes()
    listing = project / ".dvc/cache/files/md5" / unrecorded[:2] / unrecorded[2:]
    listing.unlink()
    tracked.write_text(newer)
    with pytest.raises(InputError, match=f"has not recorded, and data/raw.dvc names {new}"):
        data.ingest_and_record(project)
    cached = project / ".dvc/cache/files/md5" / new[:2] / new[2:]
    cached.unlink()
    with pytest.raises(InputError, match=f"{new}, is neither in DVC's cache nor in a remote"):
        data.ingest_and_record(project)
    assert ledger.read_bytes() == held and tracked.read_text() == newer


def test_without_its_cache_a_dataset_still_grows(project: Path, inbox: Path) -> None:
    """Somebody made room by removing DVC's cache, and there is no remote: data/raw is what data/raw.dvc names, and is
    gone on from."""
    data.ingest_and_record(project)
    shutil.rmtree(project / ".dvc/cache")
    fill(inbox, "rain", range(40, 44))
    data.ingest_and_record(project)
    assert len(Ledger.read(project / "data/raw").rows) == 28


def test_datasets_never_mix_and_come_back(project: Path, inbox: Path, tmp_path: Path) -> None:
    """Another dataset starts empty; the first one's bytes stay in the cache; a refused ingest changes nothing."""
    first = data.ingest_and_record(project)
    other = tmp_path / "other"
    fill(other, "rain", range(200, 212))
    use(project, other, "elsewhere")
    with pytest.raises(InputError, match="only the class 'rain'"):
        data.ingest_and_record(project)
    assert md5(project / "data/raw") == first
    fill(other, "sun", range(300, 312))
    data.ingest_and_record(project)
    ledger = Ledger.read(project / "data/raw")
    assert ledger.dataset == "elsewhere" and len(ledger.rows) == 24
    assert data_versions.has_bytes(project, first)


def test_images_never_change_in_place(project: Path, inbox: Path) -> None:
    """An image edited or removed in data/raw is named, with the command that mends it; no version is made of it."""
    version = data.ingest_and_record(project)
    image = sorted((project / "data/raw/rain").iterdir())[0]
    image.write_bytes(photograph(999, 160, 120))
    with pytest.raises(InputError, match=f"{image.name}.*dvc checkout"):
        data.ingest_and_record(project)
    assert raw_md5(project) == version


@pytest.mark.fault(44, trials=DAMAGED)
def test_a_damaged_cache_object_is_named(project: Path, inbox: Path) -> None:
    """A flipped bit in DVC's cache (which DVC checks out without a word) is named, with the command that mends it."""
    version = data.ingest_and_record(project)
    files = data_versions._listing(project, version)
    assert files is not None
    names, draw = [name for name in files if "/" in name], random.Random(0)
    shutil.rmtree(project / "data/raw")
    for _ in range(DAMAGED):
        name = draw.choice(names)
        damaged = data_versions._object(project, files[name])
        whole = damaged.read_bytes()
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        damaged.chmod(0o644)
        damaged.write_bytes(content)
        damaged.chmod(0o444)
        with pytest.raises(InputError, match=f"{files[name][2:]}.*damaged.*dvc fetch"):
            data.ingest_and_record(project)
        assert raw_md5(project) == version
        with pytest.raises(InputError, match="damaged"):
            data_versions.materialise(project, version)
        damaged.chmod(0o644)
        damaged.write_bytes(whole)


def test_lost_bytes_are_not_replaced_by_new_splits(project: Path, inbox: Path) -> None:
    """A clone with data/raw.dvc but neither cache nor remote is refused: a new ledger would deal the test set anew."""
    data.ingest_and_record(project)
    shutil.rmtree(project / "data/raw")
    shutil.rmtree(project / ".dvc/cache")
    (project / ".weathervane/ingest.json").unlink()
    with pytest.raises(InputError, match="neither in DVC's cache nor in a remote"):
        data.ingest_and_record(project)
    assert not (project / "data/raw").exists()


def test_the_command_line_looks_at_data(project: Path, inbox: Path, here: Here) -> None:
    """`data check` counts every file, says whether a dataset could be made of them, and writes nothing; `data versions`
    and `data diff` tell what changed."""
    weathervane = partial(here, project)
    (inbox / "rain/broken.jpg").write_bytes(b"no image")
    (inbox / "rain/again.jpg").write_bytes(photograph(0, 160, 120))
    (inbox / ".DS_Store").write_bytes(b"x")
    checked = weathervane("data", "check", str(inbox))
    assert checked.returncode == 0, checked.stderr
    for line in ("accepted: rain", "duplicate of another", "quarantined: not an image", "ignored", "broken.jpg"):
        assert line in checked.stdout
    assert "as a dataset of its own it would be taken in" in checked.stdout and "beside" not in checked.stdout
    for number in range(4):
        (inbox / f"rain/broken{number}.jpg").write_bytes(b"no image")
    for number in range(30):
        (inbox / "-dash").mkdir(exist_ok=True)
        (inbox / f"-dash/{number}.jpg").write_bytes(b"")
    told = weathervane("data", "check", str(inbox)).stdout
    assert "'-dash/0.jpg' and 29 more beside it: name not understood: no class folder" in told
    shutil.rmtree(inbox / "-dash")
    refused = weathervane("data", "check", str(inbox))
    assert refused.returncode == 2 and "it would be refused: 5 of 31 files are bad, more than max_bad" in refused.stdout
    for number in range(4):
        (inbox / f"rain/broken{number}.jpg").unlink()
    assert not (project / "data/raw").exists() and not (project / "mlflow.db").exists()

    (inbox / "rain/broken.jpg").unlink()
    first = data.ingest_and_record(project)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-qam", "first"], cwd=project, check=True)
    subprocess.run(["git", "add", "data/raw.dvc"], cwd=project, check=True)
    subprocess.run([*git, "commit", "-qm", "data", "--allow-empty"], cwd=project, check=True)
    fill(inbox, "sun", range(112, 115))
    second = data.ingest_and_record(project)
    listed = weathervane("data", "versions")
    assert first in listed.stdout and second in listed.stdout and "3 images added to sun" in listed.stdout
    assert "3 images added to sun" in weathervane("data", "diff", first[:6], second[:6]).stdout
    other = inbox.with_name("other")
    for label, seeds in (("rain", range(12, 24)), ("fog", range(200, 212))):
        fill(other, label, seeds)
    shutil.copyfile(inbox / "sun/sun100.jpg", other / "fog/sun100.jpg")
    before, joined = (project / "data/raw.dvc").read_bytes(), weathervane("data", "check", str(other))
    assert "beside the 27 images of 'weather' it would be taken in: 24 new, 0 known" in joined.stdout
    assert "classes that the dataset did not have: fog" in joined.stdout
    assert joined.returncode == 0 and (project / "data/raw.dvc").read_bytes() == before
    for number in range(101, 106):
        shutil.copyfile(inbox / f"sun/sun{number}.jpg", other / f"fog/sun{number}.jpg")
    joined = weathervane("data", "check", str(other))
    assert joined.returncode == 2 and "'weather' it would be refused: 6 of 30 files are bad" in joined.stdout
    (project / ".weathervane/examined.sqlite").unlink()
    lost = next((project / "data/raw/rain").iterdir())
    lost.rename(lost.with_name("away"))
    joined = weathervane("data", "check", str(other))
    assert joined.returncode == 2 and f"{lost.name} is missing: 'dvc checkout" in joined.stderr
    lost.with_name("away").rename(lost)
    wrong = weathervane("data", "diff", "0123", second[:6])
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


def test_an_older_version_that_was_trained_on_is_not_the_last(project: Path, inbox: Path) -> None:
    """A project that returns to a dataset goes on from the version that it had last, whoever used that one, and not
    from one that `--data-version` named since."""
    experiment = tracking.experiment(project, "weather")
    for version, about in (("1", {}), ("2", {"kind": "crossval"}), ("1", {OLDER: "true"})):
        told = {"kind": "retraining", "dataset": "weather", "data_md5": f"{version * 32}.dir", **about}
        tracking.end_run(project, tracking.start_run(project, experiment, "run", told), "FINISHED")
    assert data_versions.last_version(project, "weather") == "2" * 32 + ".dir"


def test_a_dataset_that_was_never_trained_on_is_found_again(project: Path, inbox: Path, here: Here) -> None:
    """Taken in, left for another dataset and gone back to: the same version, though its source is gone by then;
    `data gc` needs it meanwhile."""
    first = data.ingest_and_record(project)
    other = inbox.with_name("other")
    fill(other, "fog", range(200, 212))
    fill(other, "ice", range(300, 312))
    use(project, other, "clouds")
    second = data.ingest_and_record(project)
    assert first != second
    needed = {one.md5: one.needed_by for one in census(project).versions}
    assert needed[first] == ["the last of weather"]
    assert "removed" not in here(project, "data", "versions").stdout
    experiment, others = tracking.experiment(project, "weather"), list[str]()
    for version in (first, "2" * 32 + ".dir"):  # trained on by others, who went on from it
        told = {"kind": "retraining", "dataset": "weather", "data_md5": version}
        others.append(tracking.start_run(project, experiment, "run", told))
        os.utime(project / ".weathervane/left/weather")  # left by this clone after that
        assert data_versions.last_version(project, "weather") == version
    for run in others:
        tracking.client(project).delete_run(run)
    (inbox / "rain/rain0.jpg").unlink()
    use(project, inbox, "weather")
    assert data.ingest_and_record(project) == first
    use(project, other, "clouds")
    assert data.ingest_and_record(project) == second


def test_a_flow_is_refused_another_commands_dataset(project: Path, inbox: Path) -> None:
    """Two commands with sources of their own: what one brought in is not trained in the name of the other."""
    data.refuse_another(project)
    with data.brought_in("weather"):
        data.refuse_another(project)
        use(project, inbox, "clouds")
        with pytest.raises(InputError, match="now names 'clouds', not 'weather': somebody changed it meanwhile"):
            data.refuse_another(project)
    data.refuse_another(project)


def test_a_dataset_is_gone_back_to_with_its_own_sources(project: Path, inbox: Path) -> None:
    """`--dataset` alone brings no source that has another name into a dataset that was there before: its images could
    not be taken out again. A name that nobody used, or the dataset's own source beside it, is taken."""
    params = project / "params/ingest.yaml"
    told = {"kind": "retraining", "dataset": "weather", "data_md5": data.ingest_and_record(project)}
    tracking.end_run(
        project, tracking.start_run(project, tracking.experiment(project, "weather"), "run", told), "FINISHED"
    )
    other, own = shutil.copytree(inbox, inbox.parent / "other"), str(inbox)
    params.write_text(edited(params, project, str(other), "clouds"))
    with pytest.raises(InputError, match="--dataset weather: no image of its last version is known to come from other"):
        edited(params, project, None, "weather")
    assert "dataset: fog" in edited(params, project, None, "fog")
    assert "dataset: weather" in edited(params, project, own, "weather")
    params.write_text(edited(params, project, own, "clouds"))
    assert "dataset: weather" in edited(params, project, None, "weather")


def test_a_conflict_that_was_committed_breaks_no_history(project: Path, inbox: Path) -> None:
    """Marks of a conflict in data/raw.dvc, mended in the next commit: the versions are listed, without that one. What
    must not overlook a head says where it is broken."""
    first = data.ingest_and_record(project)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    good = (project / "data/raw.dvc").read_text()
    for text in (good, f"<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n", good):
        (project / "data/raw.dvc").write_text(text)
        subprocess.run(["git", "add", "data/raw.dvc"], cwd=project, check=True)
        subprocess.run([*git, "commit", "-qm", "data"], cwd=project, check=True)
    assert first in [version.md5 for version in data_versions.versions(project)]
    assert first in data_versions.heads(project).values()
    subprocess.run(["git", "branch", "broken", "HEAD~1"], cwd=project, check=True)
    with pytest.raises(InputError, match=r"data/raw\.dvc at broken: not a valid DVC file"):
        data_versions.heads(project)


def test_a_command_whose_params_are_edited_before_its_flow_is_refused(
    project: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what a command brings in and the work of its flow another command names another dataset: nothing is
    trained, neither by a retraining nor by a cross-validation."""
    refused = "now names 'clouds', not 'weather'"

    def flow(_: Request) -> int:
        use(project, inbox, "clouds")
        with pytest.raises(InputError, match=refused):
            retrain.work(["ann"], [], 0, "", How("cpu"))
        with pytest.raises(InputError, match=refused):
            crossval.work(["ann"], [], 2, 1.0, 0, "cpu")
        return 0

    monkeypatch.chdir(project)
    for name, stand_in in (("own_server", lambda *_: None), ("ready", lambda *_: None), ("_run_flow", flow)):
        monkeypatch.setattr(f"flows.retrain_command.{name}", stand_in)
    assert run_retrain(Request(variants=["ann"], device="cpu")) == 0


@pytest.mark.parametrize("name", FILES)
def test_a_ledger_that_lacks_a_file_is_damaged_not_empty(project: Path, inbox: Path, name: str) -> None:
    """Splits are not dealt anew because one of the ledger's files is lost: it is said how to have it back."""
    data.ingest_and_record(project)
    (project / "data/raw" / name).unlink()
    with pytest.raises(InputError, match="dvc checkout"):
        data.ingest_and_record(project)


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """Variables that name something which answers as Prefect's server does when it is looked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'"3.4.0"')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        yield {"PREFECT_API_URL": f"http://127.0.0.1:{there.server_port}/api"}
        there.shutdown()


def test_a_retraining_at_work_keeps_its_data(
    project: Path, inbox: Path, tmp_path: Path, server: dict[str, str]
) -> None:
    """Whoever asks for other data meanwhile waits before anything changes: the list of sources as well."""
    data.ingest_and_record(project)
    before = [(project / name).read_text() for name in ("params/ingest.yaml", "data/raw.dvc")]
    other = tmp_path / "other"
    fill(other, "rain", range(200, 212))
    fill(other, "sun", range(300, 312))
    program = Path(sys.executable).with_name("weathervane")
    for asked in (["retrain", "--source", str(other), "--dataset", "elsewhere"], ["crossval"]):
        (inbox / "rain/new.jpg").write_bytes(photograph(400 + len(asked), 160, 120))
        with retrain_lock(project):
            command = [program, *asked, "--variants", "ann"]
            process = started(command, project, server)
            assert process.stdout
            try:
                assert any("waiting for other work" in line for line in process.stdout)
                time.sleep(1)
                assert [(project / name).read_text() for name in ("params/ingest.yaml", "data/raw.dvc")] == before
            finally:
                process.terminate()
                process.wait(30)


def started(command: Sequence[str | Path], project: Path, variables: dict[str, str]) -> "subprocess.Popen[str]":
    """With all that it says on one pipe."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, cwd=project, env=os.environ | variables, text=True, **pipe)


def test_an_edit_that_is_made_while_a_command_waits_stays(project: Path, inbox: Path, server: dict[str, str]) -> None:
    """`weathervane retrain` that waited for its turn goes by the list of sources as it is then, and leaves it so."""
    path, line = project / "params/ingest.yaml", "# by a colleague, meanwhile\n"
    command = [Path(sys.executable).with_name("weathervane"), "retrain", "--variants", "ann"]
    turn = ExitStack()
    turn.enter_context(retrain_lock(project))
    process = started(command, project, server)
    assert process.stdout
    try:
        with turn:
            assert any("waiting for other work" in said for said in process.stdout)
            path.write_text(path.read_text() + line)
        assert any("ingest: 24 files" in said for said in process.stdout)
        assert path.read_text().endswith(line)
    finally:
        process.terminate()
        process.wait(30)


def test_an_interrupt_while_another_dataset_moves_in_mixes_nothing(
    project: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C when the new dataset is complete and half of it in place: the next start finishes it, and whichever is
    asked for is there, whole."""
    first = data.ingest_and_record(project)
    other = tmp_path / "other"
    fill(other, "rain", range(200, 212))
    fill(other, "sun", range(300, 312))
    use(project, other, "elsewhere")

    def interrupted(folder: Path) -> None:
        if folder == project / "data/raw":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("weathervane.ingest.sync_folder", interrupted)
        data.ingest_and_record(project)
    use(project, inbox, "weather")  # as a command that is interrupted leaves it
    assert data.ingest_and_record(project) == first == md5(project / "data/raw")
    use(project, other, "elsewhere")
    data.ingest_and_record(project)
    assert {row.source for row in Ledger.read(project / "data/raw").rows} == {"other"}


def test_todays_version_by_name_leaves_the_sources_alone(
    project: Path, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has arrived since is not taken in for a retraining that names the version it is to be on."""
    monkeypatch.chdir(project)  # where DVC looks
    today = data.ingest_and_record(project)
    data.prepare_and_record(project)
    fill(inbox, "rain", range(12, 20))
    command = [Path(sys.executable).with_name("weathervane"), "retrain", "--plan", "--variants", "ann"]
    told = [
        subprocess.run([*command, *more], cwd=project, capture_output=True, text=True, timeout=120).stdout
        for more in (["--data-version", today], [])
    ]
    assert f"weather, data {today}" in told[0] and "would be trained" in told[0]
    assert "would be read first" in told[1]
    for number in range(12, 20):
        (inbox / f"rain/rain{number}.jpg").unlink()
    data.ingest_and_record(project)
    path = project / "params/prepare.yaml"
    path.write_text(path.read_text().replace("shard: 4096", "shard: 5"))
    told = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120).stdout
    assert "the images would be prepared first (params/prepare.yaml changed)" in told
    assert raw_md5(project) == today


@pytest.mark.parametrize("text", ["sources: [", "dataset: a\ndataset: b\n", "", "dataset: a\n", None])
def test_a_broken_list_of_sources_is_told(project: Path, text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """params/ingest.yaml that is no YAML, says something twice, lacks its sources or is gone: one line, with its name,
    also where `--source` would put another in its place."""
    path = project / "params/ingest.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    monkeypatch.chdir(project)
    with pytest.raises(InputError, match=r"params/ingest\.yaml"):
        run_retrain(Request(source="synthetic", plan_only=True))
