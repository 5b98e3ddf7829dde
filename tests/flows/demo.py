"""`weathervane demo`, and the page that it prints in a real browser."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.flows.browser import browser
from tests.flows.conftest import WEATHERVANE, environment


class Page:
    """What a person sees; every request that it makes goes to loopback."""

    def __init__(self, page: Any) -> None:
        self._page, self._asked = page, list[str]()
        page.on("request", lambda request: self._asked.append(request.url))

    def drop(self, photograph: Path) -> None:
        """Hand in a file, in place of the one before."""
        self._page.locator("input[type=file]").set_input_files(photograph)

    def wait_for(self, text: str) -> None:
        """Until it stands there."""
        self._page.get_by_text(text).first.wait_for(timeout=60_000)

    @property
    def asked(self) -> set[str | None]:
        """Hosts that it asked for anything."""
        return {urlsplit(url).hostname for url in self._asked if url.startswith(("http", "ws"))}

    def open(self, url: str) -> None:
        """Go there."""
        self._page.goto(url)

    def see(self, path: Path) -> None:
        """What it looks like, to a file."""
        self._page.screenshot(path=path, full_page=True)


@contextmanager
def demo(root: Path, *arguments: str, **variables: str) -> Iterator[Page]:
    """The command at work and its page; ended by Ctrl-C afterwards, with status 0."""
    with browser("see the demo's page tested") as chromium:
        process = subprocess.Popen(
            [str(WEATHERVANE), "demo", "--no-open", "--port", "0", *arguments],
            cwd=root,
            env=environment(root, PYTHONUNBUFFERED="1", **variables),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), url
            page = Page(chromium.new_page())
            page.open(url)
            yield page
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
