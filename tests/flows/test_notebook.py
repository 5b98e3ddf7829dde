"""notebooks/retrain.ipynb, run as Jupyter runs it."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import copy_project
from tests.flows.conftest import environment, smaller


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, known_to_prefect: None, database: None) -> None:
    """From top to bottom in a fresh clone with no server: trained, then unchanged, compared, and classified without the
    engines; the notebook in the repository holds no outputs."""
    root = smaller(copy_project(tmp_path))
    notebook = nbformat.read(root / "notebooks/retrain.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(root / "notebooks")}}
    )
    client.execute(env=environment(root))
    shown = [
        "".join(output.get("text", "") or str(output.get("data", "")) for output in cell.outputs)
        for cell in cells(notebook)
    ]
    assert re.search("(?i)'(not )?promoted: ", shown[0]), shown[0]
    assert "dnn unchanged since run" in shown[1]
    assert "dnn" in shown[2] and "validation accuracy" in shown[3] and "truth" in shown[4]


def cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
