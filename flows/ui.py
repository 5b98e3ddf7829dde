"""`weathervane ui`: MLflow's pages with two processes instead of a dozen, opened at the runs."""

from flows import mlflow_server
from flows.environment import apply
from tasks import view
from tasks.tracking import client
from tasks.tracking_read import uri
from weathervane import project
from weathervane.ingest import Ingest
from weathervane.params import load
from weathervane.progress import say


def serve(port: int, open_browser: bool) -> int:
    """Serve until Ctrl-C; the exit status.

    Raises:
        InputError: the port is taken.
    """
    root = project.root()
    apply()
    dataset = load(Ingest, root / "params/ingest.yaml").dataset
    address = uri(root)
    if address.startswith("http"):
        say(f"MLflow runs at {address}")
        return 0
    found = client(root).get_experiment_by_name(dataset)
    log = root / project.LOGS / "mlflow-ui.log"
    with mlflow_server.start(root, log, port, [], {"MLFLOW_BACKEND_STORE_URI": address}, "--port") as server:
        page = f"http://127.0.0.1:{server.port}/#/experiments/{found.experiment_id if found else 0}/runs"
        page += view.QUERY if found and view.TAG in found.tags else ""
        return server.show(page, open_browser)
