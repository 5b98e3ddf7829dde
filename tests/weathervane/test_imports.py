"""What an import costs, and what it must not do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICK = [
    *("weathervane.variant", "weathervane.fingerprint", "weathervane.train", "weathervane.crossval"),
    *("tasks.plan", "tasks.score", "tasks.monitor"),
    *("flows.cli", "flows.retrain_command", "flows.crossval_command"),
]
HEAVY = ("torch", "prefect", "mlflow", "dvc", "pandas", "sklearn", "matplotlib", "pyarrow")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_quick_answers_import_nothing_heavy() -> None:
    """Help, a wrong parameter and "nothing to do" do not wait for torch, Prefect, MLflow or DVC to load."""
    code = "import importlib, sys\n"
    for module in QUICK:
        code += f"importlib.import_module({module!r})\n"
        code += f"print(*[f'{module}: {{name}}' for name in {HEAVY} if name in sys.modules])\n"
    assert python(code).split() == []


AUDIT = """
import importlib, json, os, pathlib, sys
root, seen = os.getcwd() + os.sep, []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path, mode = os.path.abspath(arguments[0]), arguments[1] or "r"
        ours = path.startswith(root) and not path.startswith((sys.prefix, root + ".venv"))
        if set(mode) & set("wax+") or ours and not path.endswith((".py", ".pyc")):
            seen.append([event, path, mode])
    elif event in ("os.mkdir", "socket.connect", "subprocess.Popen", "os.remove", "os.rename"):
        seen.append([event, *map(repr, arguments)])
for module in sys.argv[1:2]:
    importlib.import_module(module)  # what it costs others is not ours
sys.addaudithook(watch)
names = [".".join(path.with_suffix("").parts) for path in pathlib.Path("weathervane").rglob("*.py")]
names += ["tasks.plan", "tasks.data", "flows.cli", "flows.retrain_command"]
for name in names:
    importlib.import_module(name.removesuffix(".__init__"))
print(json.dumps([len(names), seen]))
"""


@pytest.mark.slow
def test_an_import_touches_nothing() -> None:
    """No module opens files, makes folders, starts processes or contacts a server while it is imported."""
    command = [sys.executable, "-B", "-c", AUDIT, "torch"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    count, seen = json.loads(told.stdout)
    assert count > len(list((ROOT / "weathervane").glob("*.py")))
    assert seen == []
