"""A server or worker of ours: a child process with a log, that ends with its parent, whatever ends that."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self

from weathervane import lifeline
from weathervane.errors import InputError, Told
from weathervane.open_files import hold
from weathervane.progress import say

PATIENCE = 180.0  # seconds that a server may take to answer, on a busy machine
GRACE = 10.0  # seconds between SIGTERM and SIGKILL


class ServerError(Told, RuntimeError):
    """A server did not come up; the message names its log."""


def end_as_by_ctrl_c() -> None:
    """Have SIGTERM, and a terminal that is closed (unless `nohup` says otherwise), end this process as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


@contextmanager
def ending_as_by_ctrl_c() -> Iterator[None]:
    """`end_as_by_ctrl_c`, for a while."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    end_as_by_ctrl_c()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Child:
    """`python -m MODULE ...` in a session of its own.

    As a context manager it is stopped at the end.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        environment: dict[str, str] | None = None,
        *,
        health: str = "",
        cwd: Path | None = None,
        port: int = 0,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.name, self.log, self.port, self.health = name, log, port, health
        log.parent.mkdir(parents=True, exist_ok=True)
        self.stopped = False
        self.said_before = log.stat().st_size if log.exists() else 0  # bytes of the log that are of earlier ones
        with log.open("ab") as output:
            hold(output)  # 'clean' leaves it alone, however long nothing is said
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=cwd,
                env=lifeline.environment() | (environment or {}),
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is for the parent, which still has things to say
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def ended(self) -> bool:
        """True once the process is gone."""
        return self.process.poll() is not None

    def healthy(self, timeout: float) -> bool:
        """Whether its page `health` answers 200 within `timeout` seconds."""
        import http.client  # not urllib, which would ask a proxy that the environment names

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", self.health)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait(self, timeout: float = PATIENCE) -> None:
        """Returns once the server is healthy.

        Raises:
            ServerError: the process ended, or took longer than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.healthy(max(deadline - time.monotonic(), 0.01)):
            if self.ended:
                raise ServerError(f"{self.name} ended with status {self.process.returncode}: see {self.log}")
            if time.monotonic() >= deadline:
                raise ServerError(f"{self.name} was not ready within {timeout:g} s: see {self.log}")
            time.sleep(0.2)

    def show(self, page: str, open_browser: bool) -> int:
        """Say where a person finds it, once it is healthy, and serve until Ctrl-C; the exit status.

        Raises:
            ServerError: it did not come up, or has ended by itself.
        """
        try:
            self.wait()
            say(f"{page}\nCtrl-C ends it")
            if open_browser:
                import webbrowser

                webbrowser.open(page)
        except KeyboardInterrupt:
            return 0
        return self.stay()

    def stay(self) -> int:
        """Until Ctrl-C; the exit status.

        Raises:
            ServerError: it has ended by itself.
        """
        try:
            status = self.process.wait()
        except KeyboardInterrupt:
            return 0
        raise ServerError(f"{self.name} ended with status {status}: see {self.log}")

    def look(self) -> None:
        """Called once a second while it runs."""

    def stop(self) -> None:
        """Ends it, and whatever it is answerable for."""
        self.end_session()

    def end_session(self) -> None:
        """SIGTERM, then, after GRACE, SIGKILL to whatever is left of its session, also where it has ended by itself.

        Once: later on, the number of its session may be another's.
        """
        if self.stopped:
            return
        self.stopped = True
        if not self.ended:
            os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        for one in _session(self.process.pid):
            with suppress(OSError):
                os.kill(one, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _session(leader: int) -> list[int]:
    """The processes of a session, which outlives its leader."""
    import psutil

    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == leader:
                found.append(pid)
    return found


def listener(port: int, option: str = "--port") -> socket.socket:
    """A socket that listens on loopback at `port` (0: a free one), to be handed to a child: no race, nobody else's.

    Raises:
        InputError: the port is taken.
    """
    try:
        return socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{option} {port}: {reason}: end what uses it, or choose another") from None


def free(port: int, option: str = "--port") -> int:
    """The port, or a free one for 0, for a child that takes no socket.

    Raises:
        InputError: the port is taken.
    """
    with listener(port, option) as probe:
        return int(probe.getsockname()[1])
