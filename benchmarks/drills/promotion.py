"""Promotions that race, are killed and are watched: `python -m benchmarks.drills.promotion [--races N ...]`.

Real processes on a real store. A nursery imports everything once and forks a child for each operation; the models
answer what the drill needs (tests/exam.py). Every operation goes to a log as it was invoked, and as it ended; `check`
reads the log and the registry together, as Jepsen does.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import typer

from benchmarks.drills.noted import noted
from flows.environment import apply

RULES = "policy: better\nalpha: 0.05\nmargin: 0.03\nmin_images: 50\nslice_margin: 0.5\n"
RULES += "suspected_rise: 0.05\nlimits: {}\n"
# Test images of 200 that the weak, the middle and the best student miss.
WRONG: tuple[Iterable[int], ...] = (range(60), range(30), [])
# The n-th call of a method of MLflow's client, of all calls that write: by a rollback, and by a retraining.
BY_HAND = [("set_registered_model_tag", 1), ("set_registered_model_tag", 2)]
BY_HAND += [("set_registered_model_alias", 1), ("set_registered_model_alias", 2)]
BY_RETRAINING = [("create_model_version", 1), *BY_HAND, ("update_model_version", 1), ("set_registered_model_tag", 3)]
BY_RETRAINING += [("log_artifact", 1), ("log_batch", 1), *(("set_model_version_tag", n) for n in range(1, 6))]


@dataclass
class Drill:
    """A project in a temporary folder, its exam, and a nursery for its operations."""

    root: Path
    nursery: "subprocess.Popen[str]" = field(init=False)
    datasets: int = 0

    def __post_init__(self) -> None:
        from tasks import tracking
        from tests.exam import exam

        (self.root / "params").mkdir(parents=True)
        (self.root / "params/register.yaml").write_text(RULES)
        exam(self.root / "prepared", *WRONG, images=200)
        tracking.client(self.root)
        command = [sys.executable, "-m", "benchmarks.drills.promotion", "nursery"]
        self.nursery = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def dataset(self) -> str:
        """A name that no champion has yet."""
        self.datasets += 1
        return f"drill{self.datasets}"

    def student(self, dataset: str, number: int) -> dict[str, Any]:
        """The operation that registers a student: its run is on record already, as after `evaluate`."""
        from tests.exam import run_of

        result = run_of(self.root, plan(self.root, dataset), number, self.root / "runs")
        return {"op": "register", "dataset": dataset, "result": asdict(result)}

    def run(self, *operations: dict[str, Any]) -> list[int]:
        """Carry them out at the same time, each in a process of its own; how these ended (-9: killed)."""
        assert self.nursery.stdin and self.nursery.stdout
        self.nursery.stdin.write(json.dumps([{"root": str(self.root), **one} for one in operations]) + "\n")
        self.nursery.stdin.flush()
        ended: list[int] = json.loads(self.nursery.stdout.readline())
        return ended

    def log(self) -> list[dict[str, Any]]:
        """Every operation so far: `invoked`, and once it ended `ok` or `failed`."""
        return [json.loads(line) for line in (self.root / "log.jsonl").read_text().splitlines()]

    def close(self) -> None:
        """End the nursery."""
        assert self.nursery.stdin
        self.nursery.stdin.close()
        self.nursery.wait()


def plan(root: Path, dataset: str) -> Any:
    """A retraining on the drill's exam."""
    from tasks.plan import Plan

    return Plan(dataset, "1" * 32 + ".dir", root / "prepared", seed=0, candidates=[], older=False)


def race(drill: Drill, number: int) -> list[str]:
    """Two retrainings end at once, over a weak champion; what is wrong afterwards: the better one must have won."""
    dataset = drill.dataset()
    drill.run(drill.student(dataset, 0))
    both = [drill.student(dataset, one) for one in ((1, 2), (2, 1))[number % 2]]
    ended = drill.run(*both)
    best = next(one["result"]["run_id"] for one in both if one["result"]["name"] == "student2")
    now = client(drill.root).get_model_version_by_alias(dataset, "champion")
    wrong = [] if now.run_id == best else [f"{dataset}: version {now.version} of another run won"]
    return wrong + [f"{dataset}: a process ended with {status}" for status in ended if status] + check(drill, dataset)


def kill_retraining(drill: Drill, point: tuple[str, int], after: bool) -> list[str]:
    """Kill a retraining that would promote, before or after one of its writes, and retrain; what is wrong."""
    dataset, where = drill.dataset(), f"killed {'after' if after else 'before'} {point}"
    drill.run(drill.student(dataset, 0))
    operation = drill.student(dataset, 2)
    ended = drill.run({**operation, "kill": point, "after": after})
    wrong = stood(drill, dataset, ["1", "2"]) + ([] if ended == [-signal.SIGKILL] else [f"{dataset}: was not killed"])
    drill.run(operation)
    now = standing(drill, dataset)
    if (now.champion, now.previous, now.elsewhere) != ("2", "1", ""):
        wrong.append(f"{dataset}: afterwards {now}")
    if [move.to for move in now.moves if move.done] != ["1", "2"]:
        wrong.append(f"{dataset}: the record says {now.moves}")
    return [f"{where}: {what}" for what in wrong + check(drill, dataset)]


def kill_person(drill: Drill, dataset: str, point: tuple[str, int], after: bool) -> list[str]:
    """The same with a rollback by hand, of a dataset that has had two champions."""
    before = standing(drill, dataset)
    ended = drill.run({"op": "rollback", "dataset": dataset, "kill": point, "after": after})
    wrong = stood(drill, dataset, ["1", "2"]) + ([] if ended == [-signal.SIGKILL] else [f"{dataset}: was not killed"])
    now = standing(drill, dataset)
    moved = now.champion != before.champion
    if (
        now.elsewhere
        or now.previous == now.champion
        or sum(move.done for move in now.moves) != moved + sum(move.done for move in before.moves)
    ):
        wrong.append(f"{dataset}: afterwards {now}")
    where = f"killed {'after' if after else 'before'} {point}"
    return [f"{where}: {what}" for what in wrong + check(drill, dataset)]


def stood(drill: Drill, dataset: str, allowed: list[str]) -> list[str]:
    """What is wrong right after a kill: the alias must be the old or the new one, and the lock free."""
    from filelock import Timeout

    from tasks.locks import champion_lock

    found = str(client(drill.root).get_model_version_by_alias(dataset, "champion").version)
    wrong = [] if found in allowed else [f"{dataset}: champion is version {found}"]
    try:
        with champion_lock(drill.root, dataset).acquire(timeout=5):
            pass
    except Timeout:
        wrong.append(f"{dataset}: the lock is still held")
    return wrong


def standing(drill: Drill, dataset: str) -> Any:
    """What the registry says of a dataset's champion."""
    from tasks import promotion

    return promotion.standing(client(drill.root), dataset)


def two_champions(drill: Drill) -> str:
    """A dataset whose champion was the weak student and is the best one."""
    dataset = drill.dataset()
    drill.run(drill.student(dataset, 0))
    drill.run(drill.student(dataset, 2))
    return dataset


def watch(drill: Drill, loads: int) -> list[str]:
    """Readers load the champion over and over while it changes; what was wrong."""
    dataset = two_champions(drill)
    flips = {"op": "flip", "dataset": dataset, "while": 2}
    ended = drill.run(flips, *({"op": "read", "dataset": dataset, "loads": loads // 2} for _ in range(2)))
    reads = [one for one in drill.log() if one["op"] == "read" and one["dataset"] == dataset and "loads" in one]
    seen = [one for one in reads if one["type"] == "ok"]
    wrong = [f"{dataset}: a process ended with {status}" for status in ended if status]
    if sum(one["loads"] for one in seen) < loads // 2 * 2 or any(len(one["versions"]) < 2 for one in seen):
        wrong.append(f"{dataset}: the readers saw too little: {seen}")
    return wrong + check(drill, dataset)


def check(drill: Drill, dataset: str) -> list[str]:
    """What log and registry of a dataset contradict, in words.

    Every champion passed its gate against the champion that it replaced; a run has one version at most; every version
    has its whole lineage; whoever was told of a promotion was told the truth; no reader saw files that do not belong
    together.
    """
    from tasks import promotion

    registry, wrong = client(drill.root), []
    now = promotion.standing(registry, dataset)
    done = [move for move in now.moves if move.done]
    versions = registry.search_model_versions(f"name = '{dataset}'")
    for before, move in zip([None, *done], done, strict=False):
        if move.start != (before.to if before else ""):
            wrong.append(f"{move.to} replaced {move.start}, which was not champion")
        figures = move.evidence
        if move.policy == "better" and not (
            figures["gate/p_better"] <= figures["gate/level"] and figures["gate/gained"] > figures["gate/lost"]
        ):
            wrong.append(f"{move.to} became champion without evidence: {figures}")
        if move.policy == "first" and before:
            wrong.append(f"{move.to} was not the first champion")
    if len({version.run_id for version in versions}) < len(versions):
        wrong.append("two versions of one run")
    for version in versions:
        lacking = {"variant", "data_md5", "weights_sha256", "test_set"} - version.tags.keys()
        files = {file.path for one in ("model", "data") for file in registry.list_artifacts(version.run_id, one)}
        if lacking or not {"model/model.safetensors", "model/model.json", "data/trained.parquet"} <= files:
            wrong.append(f"version {version.version} lacks {lacking or 'files'}")
    for one in drill.log():
        if one["dataset"] != dataset:
            continue
        if one.get("promoted") and one["version"] not in [move.to for move in done]:
            wrong.append(f"{one['version']} was told to be promoted and is not on record")
        wrong += one.get("mixed", [])
    return [f"{dataset}: {what}" for what in wrong]


def client(root: Path) -> Any:
    """MLflow's client of the drill's project."""
    from tasks import tracking

    return tracking.client(root)


def nursery() -> None:
    """Fork a child for each operation of a line, wait for all, and print how they ended."""
    for module in ("torch", "mlflow.pyfunc", "pandas", "tasks.register", "weathervane.evaluate"):
        importlib.import_module(module)
    for line in sys.stdin:
        children = []
        for operation in json.loads(line):
            child = os.fork()
            if not child:
                os.dup2(2, 1)
                os._exit(carry_out(operation))
            children.append(child)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(ended) + "\n")
        sys.stdout.flush()


def carry_out(operation: dict[str, Any]) -> int:
    """In the child: one operation, with its two lines in the log; the exit status."""
    root = Path(operation["root"])

    def log(kind: str, **more: Any) -> None:
        content = {key: operation[key] for key in ("op", "dataset")} | {"process": os.getpid(), "type": kind, **more}
        with open(root / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **content}) + "\n")

    log("invoked")
    if "kill" in operation:
        method, number = operation["kill"]
        strike(method, number, operation["after"])
    try:
        log("ok", **OPERATIONS[operation["op"]](root, operation))
    except Exception as error:
        log("failed", error=f"{type(error).__name__}: {error}")
        return 1
    return 0


def strike(name: str, number: int, after: bool) -> None:
    """SIGKILL this process before or after the n-th call of a method of MLflow's client."""
    from mlflow import MlflowClient

    method, calls = getattr(MlflowClient, name), 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        out = method(*arguments, **named)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return out

    setattr(MlflowClient, name, deadly)


def _register(root: Path, operation: dict[str, Any]) -> dict[str, Any]:
    from tasks.plan import Result
    from tasks.register import register

    decision = register.fn(root, plan(root, operation["dataset"]), Result(**operation["result"]))
    return {"version": decision.version, "promoted": decision.promoted, "why": decision.why}


def _rollback(root: Path, operation: dict[str, Any]) -> dict[str, Any]:
    from tasks import promotion
    from tasks.locks import champion_lock

    with champion_lock(root, operation["dataset"]):
        made = promotion.rollback(client(root), operation["dataset"], "drill", "drill")
    return {"version": made.to, "promoted": True}


def _flip(root: Path, operation: dict[str, Any]) -> dict[str, Any]:
    """Roll back and forth until the readers are done."""
    dataset, flips = operation["dataset"], 0
    while True:
        _rollback(root, operation)
        flips += 1
        lines = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
        ended = [one for one in lines if (one["op"], one["dataset"]) == ("read", dataset) and one["type"] != "invoked"]
        if len(ended) == operation["while"]:
            return {"flips": flips}


def _read(root: Path, operation: dict[str, Any]) -> dict[str, Any]:
    """Load `models:/NAME@champion` as anybody would, and hold weights, labels and hash against the registry."""
    import mlflow

    from weathervane.files import sha256
    from weathervane.model import Model

    dataset, registry = operation["dataset"], client(root)
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    known = {v.tags["weights_sha256"]: v for v in registry.search_model_versions(f"name = '{dataset}'")}
    versions, mixed = set(), []
    for _ in range(operation["loads"]):
        with tempfile.TemporaryDirectory() as folder:
            at = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{dataset}@champion", dst_path=folder)
            (path,) = (file.parent for file in Path(at).rglob("model.json"))
            version, model = known.get(sha256(path / "model.safetensors")), Model.load(path)
            if version is None or model.spec.variant != version.tags["variant"] or model.probe_error(path) > 1e-3:
                mixed.append(f"a reader saw {model.spec.variant} with the weights of {version}")
            else:
                versions.add(str(version.version))
    return {"loads": operation["loads"], "versions": sorted(versions), "mixed": mixed}


OPERATIONS = {"register": _register, "rollback": _rollback, "flip": _flip, "read": _read}


def main(races: int = 200, retrainings: int = 50, loads: int = 10_000) -> None:
    """Race, kill and watch so often; exit status 1 if anything was wrong, which is told at once."""
    from weathervane.progress import say

    total = 0
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder) / "project")
        places = islice(cycle(product(BY_RETRAINING, (False, True))), retrainings)
        for row, what, count, trials in (
            (39, "races", races, (race(drill, number) for number in range(races))),
            (40, "killed retrainings", retrainings, (kill_retraining(drill, *place) for place in places)),
            (41, "loads", loads, (watch(drill, loads) for _ in range(min(loads, 1)))),
        ):
            if not count:
                continue
            bad = 0
            for wrong in trials:
                bad += bool(wrong)
                for line in wrong:
                    say(line)
            say(f"{count:,} {what}: {bad} wrong")
            noted(row, count, count - bad if row != 41 else count * (not bad))
            total += bad
        drill.close()
    sys.exit(bool(total))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes side by side, whose threads would wait for each other
    apply()
    nursery() if sys.argv[1:] == ["nursery"] else typer.run(main)
