"""`weathervane worker`: Prefect's process worker, in this clone and with this clone's environment."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from flows.deploy import POOL
from flows.environment import LOUD, WORKER
from flows.prefect_settings import check, required
from flows.service import GRACE, Child, end_as_by_ctrl_c
from tasks.tracking_read import check_server, uri
from weathervane import project
from weathervane.errors import masked
from weathervane.progress import say


class Worker(Child):
    """The worker; when it is stopped, the flow runs that it started end first, and say so to their servers.

    One that was killed leaves them at work, in sessions of their own, until `stop` is called for it all the same.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._runs = set[psutil.Process]()

    @classmethod
    def start(cls, root: Path, log: Path, environment: dict[str, str]) -> "Worker":
        """Starts it in `root`; `environment` names the servers."""
        command = ["weathervane.lifeline", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        settings = LOUD | {name: os.environ.get(name, value) for name, value in WORKER.items()} | environment
        return cls("The worker", [*command, "--limit", "4"], log, settings, cwd=root)

    def healthy(self, timeout: float) -> bool:
        """Whether its log says that it has started: it serves no page that could be asked."""
        with self.log.open("rb") as log:
            log.seek(self.said_before)
            return b" started!" in log.read()

    def look(self) -> None:
        """Notes the flow runs that it started, while its number is its own: they outlive one that is killed."""
        with suppress(psutil.Error):
            if not self.ended:
                self._runs.update(psutil.Process(self.process.pid).children())

    def stop(self) -> None:
        """SIGTERM to each flow run, which writes its checkpoint and ends its runs, and SIGKILL to one that does not
        heed it; then the worker."""
        self.look()
        for run in self._runs:
            with suppress(psutil.Error):
                run.terminate()
        _, left = psutil.wait_procs(self._runs, timeout=2 * GRACE)
        for run in left:
            with suppress(psutil.Error):
                run.kill()
        super().stop()


def work() -> int:
    """Work until Ctrl-C or SIGTERM; the exit status.

    Raises:
        InputError: no Prefect server is configured, or it or the tracking server does not answer.
    """
    root, address = project.root(), required()
    check(address)
    check_server(uri(root))
    log = root / project.LOGS / "worker.log"
    end_as_by_ctrl_c()
    with Worker.start(root, log, {"PREFECT_API_URL": address}) as worker:
        say(f"a worker of pool '{POOL}' at {masked(address)} works in {root}, results go to {masked(uri(root))}")
        say(f"its log is {log}\nCtrl-C ends it, and what it runs")
        return worker.stay()
