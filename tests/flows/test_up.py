"""`weathervane up`: a team's servers, deployments and worker, and what people do with them."""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import psutil
import pytest

from tasks.tags import WAITING
from tests.conftest import copy_project
from tests.flows.browser import browser
from tests.flows.conftest import smaller, weathervane
from tests.flows.team import Team, cmdline, unscheduled, until, up

FAST = ["train.epochs=1", "dnn.network.hidden=[8, 8]"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path, fresh_database: Path) -> Iterator[Team]:
    root = unscheduled(smaller(copy_project(tmp_path_factory.mktemp("team"))))
    (root / "servers").mkdir(mode=0o700)
    shutil.copy(prefect_database, root / "servers")
    shutil.copy(fresh_database, root / "servers")
    with up(root, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="3") as team:
        yield team


@pytest.mark.fault(53)
def test_everything_listens_on_loopback_only(team: Team) -> None:
    """No socket of any process that `up` started can be reached from another machine."""
    listening = [
        connection.laddr
        for process in [psutil.Process(team.process.pid), *team.family()]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {f"http://127.0.0.1:{address.port}" for address in listening} >= {team.prefect, team.mlflow}


@pytest.mark.fault(54, trials=2)
@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_both_servers_refuse_foreign_pages(team: Team, header: dict[str, str]) -> None:
    """A page from elsewhere that a person has open can neither read nor start anything, on either server."""
    for url in (f"{team.prefect}/api/flow_runs/filter", f"{team.mlflow}/api/2.0/mlflow/experiments/create"):
        request = Request(url, b'{"name": "evil"}', {"Content-Type": "application/json", **header})
        with pytest.raises(HTTPError, match="403"):
            build_opener(ProxyHandler({})).open(request, timeout=30)


@pytest.mark.fault(22, trials=2)
def test_a_taken_port_is_named_at_once(team: Team) -> None:
    """Not status 0 after three quarters of a minute, as bare MLflow: the option, the port and the way out."""
    port = team.mlflow.rpartition(":")[2]
    other = copy_project_beside(team.root)
    for option, free in (("--mlflow-port", "--port"), ("--port", "--mlflow-port")):
        ended = weathervane(other, "up", option, port, free, "0")
        assert ended.returncode == 2 and f"{option} {port}: Address already in use" in ended.stderr, ended
    assert weathervane(team.root, "up", "--port", "0").stderr.count("another 'weathervane up' is at work") == 1


def test_a_command_that_is_not_told_of_the_servers_hears_of_them(team: Team) -> None:
    """Without MLFLOW_TRACKING_URI it looks at mlflow.db, and says what to export for the team's store; with it, not."""
    exports = f"export PREFECT_API_URL={team.prefect}/api MLFLOW_TRACKING_URI={team.mlflow}\n"
    assert exports in weathervane(team.root, "history").stderr
    assert "export" not in team.run("history").stderr


def copy_project_beside(root: Path) -> Path:
    other = root.with_name(f"{root.name}-other")
    other.mkdir()
    return copy_project(other)


def test_the_form_starts_a_retraining(team: Team) -> None:
    """A person fills the form on Prefect's page in a browser: the variant is trained, and is champion in MLflow."""
    deployment = team.ask("deployments/name/retrain/nightly")

    def asked_for() -> list[dict[str, Any]]:
        runs = team.flow_runs(deployment_id={"any_": [deployment["id"]]})
        return [run for run in runs if not run["auto_scheduled"]]

    with browser("have the form filled in") as chromium:
        page = chromium.new_page(viewport={"width": 1200, "height": 1700})
        own = f"{team.prefect}/deployments/deployment/{deployment['id']}"
        page.goto(f"{own}/run")
        page.get_by_text("names of files in params/models; an empty list means all but those with").wait_for(
            timeout=60_000
        )
        for number in (0, 1, 1):  # an item for `variants`, two for `changes`
            page.get_by_role("button", name="Add item").nth(number).click()
        for box, value in enumerate(["dnn", *FAST]):
            page.locator("textarea").nth(box).fill(value)
        if picture := os.environ.get("WEATHERVANE_PICTURE"):
            page.screenshot(path=picture)
        until(lambda: submitted(page, own), "the page to take the form")
        (run,) = until(asked_for, "the run", 60)
    assert run["parameters"] == {"variants": ["dnn"], "changes": FAST, "device": "auto", "seed": 0, **REST}
    state = team.ended(run["id"])
    assert (state["name"], state["message"]) == ("Promoted", "dnn: the first champion")
    assert team.client.get_model_version_by_alias("weather-synthetic", "champion").version == "1"
    (parent,) = team.runs("retraining")
    assert parent.data.tags["prefect_flow_run_id"] == run["id"] and parent.info.status == "FINISHED"
    assert team.client.get_experiment(parent.info.experiment_id).artifact_location.startswith("mlflow-artifacts:/")


def submitted(page: Any, then: str) -> bool:
    """Whether the form was taken: the page goes on to `then`. Where the server was busy it says so and stays, over the
    button, which a key reaches all the same."""
    from playwright.sync_api import TimeoutError

    page.get_by_role("button", name="Submit").press("Enter")
    with contextlib.suppress(TimeoutError):
        page.wait_for_url(then, timeout=15_000)
    return bool(page.url == then)


REST = {"data_version": "", "time_limit": 0, "processes": 1, "memory": 0}


def test_a_schedule_fires(team: Team) -> None:
    """A cron rule starts runs, and the worker carries them out: a retraining at 3 in the morning does happen. Package
    resolvers are content with sets of versions in which cron never fires."""
    have_a_champion(team)
    deployment = team.ask("deployments/name/retrain/nightly")
    known = {run["id"] for run in team.flow_runs()}
    again = {"variants": ["dnn"], "changes": FAST}
    rule = {"schedule": {"cron": "* * * * * */20"}, "active": True, "parameters": again, "slug": "every-twenty-seconds"}
    (schedule,) = team.ask(f"deployments/{deployment['id']}/schedules", [rule])

    def started() -> list[dict[str, Any]]:
        mine = [run for run in team.flow_runs() if run["id"] not in known]
        return [run for run in mine if run["state"]["type"] != "SCHEDULED"]

    until(started, "a run by the schedule")
    team.ask(f"deployments/{deployment['id']}/schedules/{schedule['id']}", method="DELETE")  # with its later runs
    for run in started():
        assert run["auto_scheduled"] and team.ended(run["id"])["name"] in ("Unchanged", "Skipped")


def have_a_champion(team: Team) -> None:
    """Where the test of the form, which makes the first one, was skipped or not asked for."""
    if not team.runs("retraining"):
        team.ended(team.start("retrain/nightly", {"variants": ["dnn"], "changes": FAST}))


@pytest.mark.drill
def test_from_a_laptop_by_two_variables(team: Team, tmp_path: Path) -> None:
    """`weathervane trigger --wait` outside of any clone: links to both pages, what the run says, what came of it."""
    have_a_champion(team)
    done = weathervane(tmp_path, "trigger", "retrain", "--variants", "dnn", "--set", *FAST, "--wait", **team.variables)
    assert done.returncode == 0, done
    assert f"{team.prefect}/runs/flow-run/" in done.stdout
    assert "Unchanged: dnn unchanged since run" in done.stdout
    trained = team.run("trigger", "retrain", "--variants", "dnn", "--set", *FAST, "--seed", "1", "--wait")
    assert trained.returncode == 0, trained
    assert "Not promoted: dnn: " in trained.stdout
    assert f"{team.mlflow}/#/experiments/" in trained.stdout and "validation" in trained.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--device", "gpu"], 2, "retrain: refused: .*'device'.*'gpu' does not match"),
        (["--variants", "cnnn", "--wait"], 1, "Failed: no variant 'cnnn'; params/models/ has "),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(
    team: Team, arguments: list[str], status: int, words: str
) -> None:
    """At the trigger, or at the start of the run with the plain reason as its state; MLflow has no run of it."""
    before = len(team.runs())
    refused = team.run("trigger", "retrain", *arguments)
    assert refused.returncode == status, refused
    assert re.search(words, refused.stdout + refused.stderr), refused
    assert status == 2 or team.flow_runs()[0]["idempotency_key"], "asked twice, it would start two"
    assert "Traceback" not in refused.stdout + refused.stderr
    assert len(team.runs()) == before


@pytest.mark.fault(42, trials=4)
@pytest.mark.drill
def test_late_runs_of_a_schedule_are_one(team: Team) -> None:
    """While the worker sleeps, a schedule goes past four times: when it wakes, the last one trains, the others skip."""
    deployment = team.ask("deployments/name/retrain/nightly")
    with_seed = {"variants": ["dnn"], "changes": FAST, "seed": 2}
    worker = team.part("worker", "start")
    known = {run["id"] for run in team.flow_runs()}
    worker.send_signal(signal.SIGSTOP)
    try:
        now = datetime.now(UTC) + timedelta(seconds=15)
        rule = f"DTSTART:{now:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=SECONDLY;INTERVAL=2;COUNT=4"
        schedule = {"schedule": {"rrule": rule}, "active": True, "parameters": with_seed, "slug": "four-times"}
        team.ask(f"deployments/{deployment['id']}/schedules", [schedule])
        until(lambda: len(late(team, known)) >= 4, "four runs that are due")
    finally:
        worker.send_signal(signal.SIGCONT)
    mine = [run for run in team.flow_runs() if run["id"] not in known and run["parameters"]["seed"] == 2]
    assert len(mine) == 4 and all(run["auto_scheduled"] for run in mine)
    names = [team.ended(run["id"])["name"] for run in mine]
    assert sorted(names)[1:] == ["Skipped"] * 3 and sorted(names)[0] in ("Promoted", "Not promoted"), names
    assert len([run for run in team.runs("retraining") if run.data.tags["seed"] == "2"]) == 1


@pytest.mark.drill
def test_a_retraining_by_hand_elsewhere_waits_for_its_turn(team: Team, tmp_path: Path) -> None:
    """In another clone, on the team's servers: it says for whom it waits, and begins when that one has ended."""
    other = smaller(copy_project(tmp_path))
    known = {run.info.run_id for run in team.runs("retraining")}
    flow_run = team.start("retrain/nightly", {"variants": ["dnn"], "changes": ["train.epochs=200"], "seed": 6})
    until(lambda: [run for run in team.runs("retraining") if run.info.run_id not in known], "the first one's run")
    by_hand = ["retrain", "--variants", "dnn", "--set", *FAST, "--seed", "7"]
    done = weathervane(other, *by_hand, **team.variables, WEATHERVANE_OWN_SERVER="")
    assert done.returncode == 0, done
    name = team.flow_run(flow_run)["name"]
    assert f"waiting for another retraining of weather-synthetic: flow run {name}" in done.stdout
    first, second = (run.info for run in team.runs("retraining") if run.info.run_id not in known)
    assert first.status == second.status == "FINISHED" and first.end_time <= second.start_time


def late(team: Team, known: set[str]) -> list[str]:
    """Runs that should have begun by now."""
    return [run["id"] for run in team.flow_runs() if run["id"] not in known and run["estimated_start_time_delta"] > 0]


def test_a_person_decides_and_the_worker_may_die_meanwhile(team: Team) -> None:
    """Policy manual: the run is suspended with the evidence; the worker is killed; approved, it promotes the version
    that the evidence is about, though its variant was renamed meanwhile and whatever else waits to be asked about by
    then. What a run that failed has left is asked about by the next one, but for what has come about meanwhile."""
    have_a_champion(team)
    path = team.root / "params/register.yaml"
    path.write_text(
        path.read_text()
        .replace("policy: by_change", "policy: manual")
        .replace("min_images: 50", "min_images: 1")
        .replace("test/ece_low: 0.1", "test/ece_low: 1.0")
        .replace("suspected_rise: 0.05", "suspected_rise: 1.0")
    )
    run = team.start("retrain/nightly", {"variants": ["dnn"], "changes": FAST, "seed": 4})
    until(lambda: team.flow_run(run)["state"]["name"] == "Suspended", "the question")
    keyset = team.flow_run(run)["state"]["state_details"]["run_input_keyset"]

    def form() -> str | None:
        with contextlib.suppress(HTTPError):  # it is stored after the state
            return str(team.ask(f"flow_runs/{run}/input/{keyset['description']}"))
        return None

    evidence = until(form, "the form")
    other = a_question_that_was_left(team)
    assert "waiting for approval" in evidence and "a person decides" in evidence
    before = team.client.get_model_version_by_alias("weather-synthetic", "champion").version
    planned = team.run("retrain", "--plan", "--variants", "dnn", "--set", *FAST, "--seed", "4")
    assert re.search(
        r"^nothing to do.*^weather-synthetic 1, \d+: waiting for approval, unless 'weathervane history' says other",
        planned.stdout,
        re.DOTALL | re.MULTILINE,
    ), planned
    team.part("worker", "start").kill()
    until(lambda: "The worker ended with status -9" in team.output.read_text(), "the new worker")
    variant = team.root / "params/models/dnn.yaml"
    variant.rename(variant.with_name("dense.yaml"))
    answer = {"decision": "approve", "by": "ann", "why": "it is only a test"}
    team.ask(f"flow_runs/{run}/resume", {"run_input": answer})
    state = team.ended(run)
    variant.with_name("dense.yaml").rename(variant)
    assert (state["name"], state["message"]) == ("Promoted", "dnn: approved by ann: it is only a test")
    now = team.client.get_model_version_by_alias("weather-synthetic", "champion")
    assert int(now.version) > int(before) and now.tags["decision"] == "promoted"
    parents = {one.info.run_id: one for one in team.runs("retraining")}
    assert parents.pop(other).data.tags["decision"] == WAITING
    parent = list(parents.values())[-1]
    assert (parent.info.status, parent.data.tags["decision"]) == ("FINISHED", "promoted")
    answered = "promoted:** approved by ann: it is only a test. What was asked: "
    assert f"**Version {now.version}, {answered}" in now.description
    assert parent.data.tags["mlflow.note.content"].startswith(f"**{answered}")
    assert team.client.get_run(now.run_id).data.tags["became"] == "champion"
    moot, gone = a_question_that_was_left(team, now.version), a_question_that_was_left(team, now.version)
    team.ask(f"flow_runs/{team.client.get_run(gone).data.tags['prefect_flow_run_id']}", method="DELETE")
    for key, value in (("compared_with", now.version), ("decision", WAITING)):
        team.client.set_model_version_tag("weather-synthetic", "1", key, value)
    run = team.start("retrain/nightly", {"variants": ["dnn"]})
    until(lambda: team.flow_run(run)["state"]["name"] == "Suspended", "the question that was left")
    team.ask(f"flow_runs/{run}/resume", {"run_input": answer | {"decision": "reject"}})
    assert team.ended(run)["name"] == "Not promoted"
    assert team.client.get_run(other).data.tags["decision_why"] == "rejected by ann: it is only a test"
    for one in (moot, gone):
        closed = team.client.get_run(one).data.tags
        assert (closed["decision"], closed["decision_why"]) == ("promoted", "approved by ann: it is only a test")
    for one in (other, moot, gone):
        team.client.delete_run(one)


def a_question_that_was_left(team: Team, version: str = "1") -> str:
    """A later retraining whose flow run failed before it could ask about its version; the MLflow run."""
    flow = team.ask("flows/name/retrain")["id"]
    failed = team.ask("flow_runs/", {"flow_id": flow, "state": {"type": "FAILED"}})["id"]
    tags = {"kind": "retraining", "dataset": "weather-synthetic", "decision": WAITING, "best_variant": "dnn"}
    experiment = team.client.get_experiment_by_name("weather-synthetic").experiment_id
    run = team.client.create_run(experiment, tags=tags | {"prefect_flow_run_id": failed, "model_version": version})
    team.client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def test_ctrl_c_leaves_nothing_behind(team: Team) -> None:
    """In the middle of a training: the runs are ended in both servers, then every process is gone."""
    run = team.start("retrain/nightly", {"variants": ["dnn"], "changes": ["train.epochs=100000"], "seed": 5})
    until(lambda: any("weathervane.train" in cmdline(one) for one in team.family()), "the training")
    family = team.family()
    os.kill(team.process.pid, signal.SIGINT)
    assert team.process.wait(60) == 0
    assert not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    with closing(sqlite3.connect(team.root / "servers/prefect.db")) as prefect:
        assert prefect.execute("SELECT state_type FROM flow_run WHERE id = ?", [run]).fetchall() == [("CRASHED",)]
    with closing(sqlite3.connect(team.root / "servers/mlflow.db")) as mlflow:
        assert mlflow.execute("SELECT status FROM runs WHERE status NOT IN ('FINISHED', 'FAILED')").fetchall() == [
            ("KILLED",),
            ("KILLED",),
        ]
