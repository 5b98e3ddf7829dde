"""MLflow's server on loopback, with two processes instead of a dozen."""

from pathlib import Path

from flows.service import Child, free


def start(root: Path, log: Path, port: int, arguments: list[str], environment: dict[str, str], option: str) -> Child:
    """Starts it at `port` (0: a free one); `arguments` are those of `mlflow server`.

    Raises:
        InputError: the port is taken, which MLflow itself would tell by ending with status 0.
    """
    port = free(port, option)
    command = ["weathervane.lifeline", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Child(
        "MLflow's server", command + arguments, log, quiet | environment, health="/health", cwd=root, port=port
    )
