"""A Prefect server of ours: a child process on loopback that ends when its parent does.

That of one command: Prefect starts a server itself when PREFECT_API_URL is not set, but only once it has been
imported, on a port that it hopes is free, and a killed parent orphans it. Ours boots while its parent still imports,
so this module imports next to nothing. It writes to the user's own Prefect database, where `prefect server start`
shows the same runs. That of `weathervane up` has the pages, the scheduler and all the rest (`team`).
"""

import contextlib
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any, Self
from urllib.parse import urlsplit

from flows.prefect_settings import check, configured
from flows.secrets import keep_secrets
from flows.service import Child, listener
from weathervane import lifeline, project

OWN = "WEATHERVANE_OWN_SERVER"  # set where the server belongs to this process alone
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    # No run needs the block types, which take 2 s on a fresh database. Memoising must be off as well, or
    # Prefect notes them as registered and a later `prefect server start` leaves them out.
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    # One transaction a second, not one for each state of each task run.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # By default any web page that is open meanwhile may read and write the user's runs.
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
}


def team(home: Path, port: int) -> dict[str, str]:
    """Settings of a server that a team shares; those of its database and pages may be set from outside."""
    page = f"http://127.0.0.1:{port}"
    database = f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    return {
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",  # what goes wrong stands in its log
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": f"{page}/api",
        "PREFECT_UI_API_URL": os.environ.get("PREFECT_UI_API_URL", f"{page}/api"),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": os.environ.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", page),
        "PREFECT_API_DATABASE_CONNECTION_URL": os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL", database),
        # In memory, the default, a restart forgets who holds a place, and nobody ever gets it again.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P366D",  # else a night without a server forgets who is overdue
    }


class LocalServer(Child):
    """A Prefect server that belongs to this process.

    Its `url` is known from the start: requests that come while the server boots wait for it.
    """

    @classmethod
    def start(cls, log: Path, port: int = 0, home: Path | None = None) -> Self:
        """Starts a server that boots in the background; whatever it prints is appended to the file `log`.

        With a `home` it is a team's: pages, schedules, automations, and its database in that folder.

        Raises:
            InputError: the port is taken.
        """
        # The child inherits a socket that listens already: nobody can take the port in between.
        with listener(port) as socket:
            fd, port = socket.fileno(), socket.getsockname()[1]
            command = ["flows.server", str(fd), *(["team"] if home else [])]
            settings = team(home, port) if home else ENVIRONMENT
            return cls("The Prefect server", command, log, settings, health="/api/health", port=port, pass_fds=(fd,))

    @property
    def url(self) -> str:
        """What PREFECT_API_URL should be."""
        return f"http://127.0.0.1:{self.port}/api"

    def stop(self) -> None:
        """Ends the server; at once while it boots, else after recording what this process reported to it."""
        if not self.ended:
            _send_what_is_queued()
        super().stop()


def own_server(root: Path, stack: contextlib.ExitStack) -> LocalServer | None:
    """A Prefect server of our own that ends with `stack`, to be waited for; None where one is configured and answers.

    Prefect reads where its server is once, when it is imported: this comes first.

    Raises:
        InputError: the configured server does not answer.
    """
    if address := configured():
        check(address)
        return None
    server = stack.enter_context(LocalServer.start(root / project.LOGS / "prefect-server.log"))
    os.environ |= {"PREFECT_API_URL": server.url, OWN: "1"}
    return server


def _send_what_is_queued() -> None:
    """Has Prefect's threads in this process send their logs and events; task states travel as events."""
    workers = {"prefect.events.worker": "EventsWorker", "prefect.logging.handlers": "APILogWorker"}
    for module, worker in workers.items():
        if module in sys.modules:
            logging.getLogger(worker).setLevel(logging.ERROR)  # that something is left to send is no warning here
            getattr(sys.modules[module], worker).drain_all(timeout=5)


def serve(fd: int, team: bool) -> None:
    """Serves on the listening socket `fd` until SIGTERM; not for a `team`, with the services of an ephemeral server."""
    keep_secrets()
    gc.disable()  # importing allocates much and frees little: a sixth of the boot
    import asyncio

    import uvicorn
    from filelock import FileLock
    from prefect.server.api.server import create_app
    from prefect.server.utilities.messaging.memory import METRICS
    from prefect.settings import get_current_settings

    app = create_app(ephemeral=not team)
    services = app.router.lifespan_context
    events = METRICS["events"]

    @contextlib.asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        home = get_current_settings().home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with contextlib.AsyncExitStack() as stack:
            # A migration commits in between, where a second one could get in and collide.
            with FileLock(home / "weathervane-server.lock"):
                await stack.enter_async_context(services(app))
            gc.freeze()
            gc.enable()
            yield
            # When they are stopped, Prefect's services drop the events that they have not read yet.
            deadline = time.monotonic() + 4
            while events["consumed"] < events["published"] and time.monotonic() < deadline:
                await asyncio.sleep(0.02)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not self.started:  # uvicorn would finish booting first
                os._exit(128 + sig)
            super().handle_exit(sig, frame)

    app.router.lifespan_context = lifespan
    # Round the app, not in it: the server's own services call that by a name of their own.
    config = uvicorn.Config(
        OwnPagesOnly(app, allowed_hosts()), lifespan="on", log_level="error", timeout_graceful_shutdown=3
    )
    Server(config).run(sockets=[socket.socket(fileno=fd)])


class OwnPagesOnly:
    """An ASGI app round another: refuses requests that a foreign page makes in somebody's browser.

    By its Origin (400 bytes of JavaScript could else start runs through a visitor's browser), and by the Host that a
    rebound name of the attacker's shows. Prefect itself looks at neither; MLflow at both.
    """

    def __init__(self, app: Any, hosts: set[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """403 for a foreign Host or Origin; the rest goes through."""
        from starlette.responses import PlainTextResponse
        from starlette.websockets import WebSocketClose

        headers = {key: value.decode("latin-1") for key, value in scope.get("headers", ())}
        told = [f"//{headers.get(b'host', '')}", *([headers[b"origin"]] if b"origin" in headers else [])]
        if scope["type"] == "lifespan" or all(urlsplit(one).hostname in self.hosts for one in told):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            refusal = "This server answers its own pages only; WEATHERVANE_ALLOWED_HOSTS names further hosts.\n"
            await PlainTextResponse(refusal, 403)(scope, receive, send)


def allowed_hosts() -> set[str]:
    """Names by which a person's browser may call the server: loopback's, and those of a proxy before it."""
    more = os.environ.get("WEATHERVANE_ALLOWED_HOSTS", "").split(",")
    return {"127.0.0.1", "localhost", "::1", *(name.strip().lower() for name in more if name.strip())}


if __name__ == "__main__":
    lifeline.hold()
    serve(int(sys.argv[1]), team="team" in sys.argv[2:])
