"""`weathervane ui`: MLflow's pages with two processes instead of a dozen, opened at the runs."""

from flows import mlflow_server
from flows.service import free
from tasks import view
from tasks.data import dataset_of
from tasks.tracking_read import served, uri
from weathervane import project
from weathervane.progress import say


def serve(port: int, open_browser: bool) -> int:
    """Serve until Ctrl-C; the exit status.

    Raises:
        InputError: the port is taken.
    """
    root = project.root()
    dataset = dataset_of(root)
    address = uri(root)
    if served(address):
        say(f"MLflow runs at {address}")
        return 0
    port = free(port, "--port")  # before MLflow is imported, for seconds
    from tasks.tracking import client

    found = client(root).get_experiment_by_name(dataset)
    log = root / project.LOGS / "mlflow-ui.log"
    with mlflow_server.start(root, log, port, [], {"MLFLOW_BACKEND_STORE_URI": address}, "--port") as server:
        page = f"http://127.0.0.1:{server.port}/#/experiments/{found.experiment_id if found else 0}/runs"
        page += view.QUERY if found and view.TAG in found.tags else ""
        return server.show(page, open_browser)
