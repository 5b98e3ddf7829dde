"""`weathervane deploy`: what a Prefect server needs to know of this project, once or again: all of it stands here."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from flows.prefect_settings import check, required
from weathervane import project
from weathervane.errors import InputError, masked
from weathervane.progress import say

POOL = "weathervane"
PARTLY = 1
DONE = f"work pool '{POOL}' and the deployments of prefect.yaml are on"


def deploy() -> int:
    """Work pool, automations and the deployments of prefect.yaml, on the configured server; the exit status.

    It is PARTLY where somebody of params/notify.yaml cannot be told anything yet; all else is done.

    Raises:
        InputError: no server is configured or it does not answer; prefect.yaml is wrong.
    """
    root = project.root()
    address = required()
    check(address)
    make_pool()
    deploy_all(root)
    from flows.automations import ensure_automations

    told, lacking = ensure_automations(root)
    for line in [*told, *lacking]:
        say(line)
    say(f"{DONE} {masked(address)}")
    return PARTLY if lacking else 0


def make_pool() -> None:
    """The work pool, where it is missing: 'prefect deploy' would only warn."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as prefect:
        try:
            found = prefect.read_work_pool(POOL)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            with suppress(ObjectAlreadyExists):  # made by another at the same moment
                prefect.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
            return
    if found.type != "process":
        raise InputError(
            f"work pool '{POOL}' is of type {found.type}: a process pool is needed; rename or delete that one"
        )


def deploy_all(root: Path) -> None:
    """What 'prefect deploy --all' does."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        told = masked((done.stdout + done.stderr).strip())
        raise InputError(f"prefect.yaml: 'prefect deploy --all' failed:\n{told}")
