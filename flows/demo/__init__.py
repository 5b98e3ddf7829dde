"""`weathervane demo`: the page of `page.py`, served by Streamlit on loopback."""

from importlib.util import find_spec
from pathlib import Path

from flows.service import Child, free
from tasks.answering import named
from tasks.tracking_read import tracked_root
from weathervane import project
from weathervane.errors import InputError
from weathervane.images import MAX_BYTES

PAGE = Path(__file__).with_name("page.py")  # in a folder of its own, which Streamlit puts first on the path
MODEL, DEVICE = "WEATHERVANE_DEMO_MODEL", "WEATHERVANE_DEMO_DEVICE"  # what the page is told
SETTINGS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": str(MAX_BYTES >> 20),  # MiB
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
}


def serve(model: str, device: str, port: int, open_browser: bool) -> int:
    """Serve until Ctrl-C; the exit status.

    Raises:
        InputError: Streamlit is missing, there is no such model, or the port is taken.
    """
    if find_spec("streamlit") is None:
        raise InputError("streamlit is missing: 'make setup' installs the extra 'demo'")
    root = tracked_root()
    named(root, model)
    port = free(port, "--port")
    command = ["weathervane.lifeline", "streamlit", "run", str(PAGE), "--server.port", str(port)]
    command += [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    log = root / project.LOGS / "demo.log"
    asked = {MODEL: model, DEVICE: device}
    with Child("The demo", command, log, asked, health="/_stcore/health", cwd=root, port=port) as child:
        return child.show(f"http://127.0.0.1:{port}", open_browser)
