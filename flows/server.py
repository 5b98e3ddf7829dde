"""The Prefect server of one command: a child process on loopback that ends when its parent does.

Prefect starts a server itself when PREFECT_API_URL is not set, but only once it has been imported, on a port
that it hopes is free, and a killed parent orphans it. This one boots while its parent still imports, so this
module imports next to nothing. It writes to the user's own Prefect database, where
`prefect server start` shows the same runs.
"""

import contextlib
import gc
import logging
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Self

from flows.secrets import keep_secrets
from weathervane import lifeline
from weathervane.errors import InputError, Told

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


class ServerError(Told, RuntimeError):
    """The server did not come up; the message names its log."""


class LocalServer:
    """A Prefect server that belongs to this process.

    `url` is what PREFECT_API_URL should be, known from the start: requests that come while the server boots
    wait for it. As a context manager it is stopped at the end.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self._process = process
        self._port = port
        self._log = log

    @classmethod
    def start(cls, log: Path) -> Self:
        """Starts a server that boots in the background; whatever it prints is appended to the file `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        # The child inherits a socket that listens already: nobody can take the port in between.
        with socket.create_server(("127.0.0.1", 0)) as listener, log.open("ab") as output:
            fd, port = listener.fileno(), listener.getsockname()[1]
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.server", str(fd)],
                env=lifeline.environment() | ENVIRONMENT,
                pass_fds=[fd],
                start_new_session=True,  # Ctrl-C is for the parent, which still has states to report
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return cls(process, port, log)

    def wait(self, timeout: float = 180.0) -> None:
        """Returns once the server answers; ServerError if it ended or took more than `timeout` seconds."""
        import http.client  # not urllib, which would ask a proxy that the environment names

        # No polling: the request waits in the socket's queue until the server takes it, or dies.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            connection.request("GET", "/api/health")
            status = connection.getresponse().status
        except TimeoutError:
            raise self._error(f"was not ready within {timeout:g} s") from None
        except (OSError, http.client.HTTPException):
            raise self._error(f"ended with status {self._process.wait(10)} before it was ready") from None
        finally:
            connection.close()
        if status != http.client.OK:
            raise self._error(f"answers its health check with HTTP {status}")

    def stop(self) -> None:
        """Ends the server; at once while it boots, else after recording what this process reported to it.

        Kills it after 10 s. May be called again.
        """
        if self._process.poll() is None:
            _send_what_is_queued()
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _error(self, what: str) -> ServerError:
        return ServerError(f"The local Prefect server {what}; see {self._log}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def configured() -> str | None:
    """The address of the person's Prefect server, from the environment or the active profile of Prefect's settings."""
    if address := os.environ.get("PREFECT_API_URL"):
        return address
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or content.get("active", "")
    return content.get("profiles", {}).get(active, {}).get("PREFECT_API_URL") or None


def check(address: str) -> None:
    """Ask a configured server for anything at all, so that one that is down is told before the work begins.

    Raises:
        InputError: nothing answers within 8 s.
    """
    import urllib.error
    import urllib.request
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    try:
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
        urllib.request.urlopen(url, timeout=8).close()
    except urllib.error.HTTPError:
        return  # it answers; whom it lets in is not asked here
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"PREFECT_API_URL {address}: no Prefect server answers there ({reason}): start it, or unset it (in "
            "the environment or the profile) and one is started for the time of the command"
        ) from None


def _send_what_is_queued() -> None:
    """Has Prefect's threads in this process send their logs and events; task states travel as events."""
    workers = {"prefect.events.worker": "EventsWorker", "prefect.logging.handlers": "APILogWorker"}
    for module, worker in workers.items():
        if module in sys.modules:
            logging.getLogger(worker).setLevel(logging.ERROR)  # that something is left to send is no warning here
            getattr(sys.modules[module], worker).drain_all(timeout=5)


def serve(fd: int) -> None:
    """Serves on the listening socket `fd` until SIGTERM, with the services of Prefect's ephemeral server."""
    keep_secrets()
    gc.disable()  # importing allocates much and frees little: a sixth of the boot
    import asyncio

    import uvicorn
    from filelock import FileLock
    from prefect.server.api.server import create_app
    from prefect.server.utilities.messaging.memory import METRICS
    from prefect.settings import get_current_settings

    app = create_app(ephemeral=True)
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
    config = uvicorn.Config(app, lifespan="on", log_level="error", timeout_graceful_shutdown=3)
    Server(config).run(sockets=[socket.socket(fileno=fd)])


if __name__ == "__main__":
    lifeline.hold()
    serve(int(sys.argv[1]))
