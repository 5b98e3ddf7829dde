"""What may happen to a team's servers at night, done to `weathervane up`; docs/operations.md has the outcomes.

`python -m benchmarks.drills.operations` runs all of it, `... worker prefect` some. After each, the next retraining has
to finish, no run may stay Running in either server, the champion stands, and no epoch is missing or twice.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.drills.noted import noted
from tests.conftest import copy_project
from tests.flows.conftest import smaller
from tests.flows.team import FINAL, Team, until, up
from weathervane.progress import say

EPOCHS = 60
LONG: dict[str, Any] = {"variants": ["dnn", "lstm"], "changes": [f"train.epochs={EPOCHS}"]}


def worker(team: Team, run: str) -> str:
    """SIGKILL of the worker alone: its flow run is left without a parent."""
    in_a_variant(team)
    team.part("prefect", "worker", "start").kill()
    state = team.ended(run)
    return f"the run that it had started ended as {state['name']} ({state['message']})"


def tree(team: Team, run: str) -> str:
    """SIGKILL of the worker and all that it had started, as an out-of-memory killer or a restart of a service does."""
    in_a_variant(team)
    parent = team.part("prefect", "worker", "start")
    for process in [*parent.children(recursive=True), parent]:
        process.kill()
    began = time.monotonic()
    until(lambda: "starting it again" in team.output.read_text(), "a new worker")
    again = team.start("retrain/nightly", LONG)
    state = team.ended(again)
    return (
        f"the killed run was {team.ended(run)['name']} {time.monotonic() - began:.0f} s later at most; "
        f"the next went on with its MLflow run and ended as {state['name']}"
    )


def prefect(team: Team, run: str) -> str:
    """SIGKILL of Prefect's server while a variant trains; `up` starts it again."""
    in_a_variant(team)
    team.part("flows.server").kill()
    until(lambda: "The Prefect server ended with status -9" in team.output.read_text(), "its end")
    until(lambda: answers(team), "its return")
    return f"the run went on and ended as {team.ended(run)['name']}"


def tracking(team: Team, run: str) -> str:
    """MLflow's server takes requests and answers none for a minute while a variant trains."""
    in_a_variant(team)
    server = team.part("mlflow", "server", "--artifacts-destination")
    stopped = [server, *server.children(recursive=True)]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    time.sleep(60)
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    return f"the run waited for it and ended as {team.ended(run)['name']}"


def asleep(team: Team, run: str) -> str:
    """Everything is stopped past ten schedules, as on a laptop whose lid is closed."""
    first = team.ended(run)["name"]
    deployment = team.ask("deployments/name/retrain/nightly")["id"]
    start = datetime.now(UTC) + timedelta(seconds=20)
    rule = f"DTSTART:{start:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=SECONDLY;INTERVAL=5;COUNT=10"
    schedule = {"schedule": {"rrule": rule}, "active": True, "parameters": LONG | {"seed": 1}, "slug": "ten-times"}
    team.ask(f"deployments/{deployment}/schedules", [schedule])
    until(lambda: [one for one in team.flow_runs() if one["parameters"].get("seed") == 1], "the schedule")
    everything = [psutil.Process(team.process.pid), *team.family()]
    for process in everything:
        process.send_signal(signal.SIGSTOP)
    time.sleep(70)
    for process in everything:
        process.send_signal(signal.SIGCONT)
    due = [one for one in team.flow_runs() if one["parameters"].get("seed") == 1]
    assert len(due) == 10, due
    names = [team.ended(one["id"])["name"] for one in due]
    trained = [one for one in team.runs("retraining") if one.data.tags["seed"] == "1"]
    assert len(trained) == 1, names
    told = ", ".join(f"{n} x {name}" for name, n in Counter(names).items())
    return f"after a first run ({first}), {len(names)} late runs ended as {told}"


def disk(team: Team, run: str) -> str:
    """The disk is full for two minutes while a variant trains, and is cleared; Prefect can store nothing meanwhile."""
    in_a_variant(team)
    filler = team.root / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(1 << 20))
    time.sleep(120)
    filler.unlink()
    state = team.ended(run)
    return f"the run ended as {state['name']}: {state['message']}"


DRILLS: dict[str, Callable[[Team, str], str]] = {
    "worker": worker,
    "tree": tree,
    "prefect": prefect,
    "tracking": tracking,
    "asleep": asleep,
    "disk": disk,
}
ROWS = {"worker": 28, "tree": 34, "tracking": 20, "asleep": 42, "disk": 17}  # of tests/faults/rows.yaml
NEEDS_A_DISK = {"disk"}  # of its own, small: a tmpfs in a namespace


def in_a_variant(team: Team) -> None:
    """Returns when a training has been at work for a moment."""
    until(lambda: any("weathervane.train" in " ".join(one.cmdline()) for one in alive(team)), "a training")
    time.sleep(6)


def alive(team: Team) -> list[psutil.Process]:
    """Those whose command line can still be read."""
    return [one for one in team.family() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def answers(team: Team) -> bool:
    """Does Prefect's server."""
    try:
        return bool(team.ask("health"))
    except OSError:
        return False


def afterwards(team: Team) -> list[str]:
    """What is wrong after a drill, in words; nothing should be."""
    wrong = []
    state = team.ended(team.start("retrain/nightly", LONG))
    if state["type"] != "COMPLETED":
        wrong.append(f"the next run ended as {state['name']}: {state['message']}")
    if running := [one["name"] for one in team.flow_runs() if one["state_type"] not in [*FINAL, "SCHEDULED"]]:
        wrong.append(f"Prefect shows {running} at work")
    if running := [one.info.run_name for one in team.runs() if one.info.status == "RUNNING"]:
        wrong.append(f"MLflow shows {running} at work")
    for one in team.runs("variant"):
        steps = [point.step for point in team.client.get_metric_history(one.info.run_id, "epoch/val_accuracy")]
        if len(steps) > 1 and one.info.status == "FINISHED" and steps != list(range(1, EPOCHS + 1)):
            wrong.append(f"{one.info.run_name} {one.info.run_id} has epochs {steps}")
    versions = [one.run_id for one in team.client.search_model_versions("name = 'weather-synthetic'")]
    if len(set(versions)) != len(versions):
        wrong.append("a run has two versions")
    return wrong


def champion(team: Team) -> str:
    """Its version."""
    return str(team.client.get_model_version_by_alias("weather-synthetic", "champion").version)


def drill(name: str) -> bool:
    """One drill in a project of its own; True if nothing was wrong afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"drill-{name}-") as folder, contextlib.ExitStack() as stack:
        place = Path(folder) / "project"
        place.mkdir()
        if name in NEEDS_A_DISK:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
        root = smaller(copy_project(place))
        with up(root, PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS="3") as team:
            team.ended(team.start("retrain/nightly", {"variants": ["dnn"], "changes": ["train.epochs=1"]}))
            before, run = champion(team), team.start("retrain/nightly", LONG)
            told, wrong = DRILLS[name](team, run), []
            if champion(team) != before and not any(one["state_name"] == "Promoted" for one in team.flow_runs()[:-1]):
                wrong = [f"the champion was version {before}, and is {champion(team)}"]
            wrong += afterwards(team)
            if wrong and (kept := os.environ.get("WEATHERVANE_KEEP")):
                shutil.copytree(root / ".weathervane/logs", Path(kept) / name, dirs_exist_ok=True)
    say(f"{name}: {told}: {'; '.join(wrong) or 'all is well afterwards'}")
    if name in ROWS:
        noted(ROWS[name], 1, int(not wrong))
    return not wrong


def main() -> int:
    """Run the drills that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", choices=[*DRILLS, []], help="; ".join(f"{n}: {d.__doc__}" for n, d in DRILLS.items())
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    good = True
    for name in options.names or DRILLS:
        if name in NEEDS_A_DISK and not options.inside:
            command = ["unshare", "-rm", sys.executable, "-m", "benchmarks.drills.operations", "--inside", name]
            good &= subprocess.run(command).returncode == 0
        else:
            good &= drill(name)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
