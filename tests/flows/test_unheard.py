"""What a flow run says when its worker is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SAYS = """
import sys, time
from weathervane.unheard import outlive_the_reader
from weathervane.progress import say
outlive_the_reader()
print("heard", flush=True)
sys.stdin.read()
for number in range(3):
    print("x" * 100_000, flush=True)
    say("nobody hears this")
    sys.stderr.write("nor this")
open(sys.argv[1], "w").write("done")
"""


def test_output_that_nobody_reads_ends_nothing(tmp_path: Path) -> None:
    """The reader of both streams goes: what is said goes nowhere, and the work is done to its end."""
    command = [sys.executable, "-c", SAYS, str(tmp_path / "out")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout and process.stderr and process.stdin
    assert process.stdout.readline() == b"heard\n"
    for stream in (process.stdout, process.stderr, process.stdin):
        stream.close()
    assert process.wait(60) == 0 and (tmp_path / "out").read_text() == "done"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_terminal_that_is_closed_ends_no_work(form: str, tmp_path: Path) -> None:
    """A person shuts the window in which a retraining runs (in a session of its own): it goes on to its end, bars and
    all."""
    says = "\n".join(line for line in SAYS.splitlines() if "outlive" not in line and "stderr" not in line)
    says = says.replace('    print("x" * 100_000, flush=True)\n', "").replace(
        "import say", "import console, say, track"
    )
    loop = "assert console().is_terminal\nfor _ in track(range(6), 'bar', 6):\n    time.sleep(0.2)"
    says = says.replace("sys.stdin.read()", loop)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", says, str(tmp_path / "out")],
        env=os.environ | {"WEATHERVANE_LOG": form, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=(tmp_path / "errors").open("w"),
        start_new_session=True,
    )
    os.close(theirs)
    assert os.read(ours, 5) == b"heard"
    time.sleep(0.2)  # until all of the line is written
    os.close(ours)
    assert process.wait(60) == 0, (tmp_path / "errors").read_text()
    assert (tmp_path / "out").read_text() == "done"


def test_a_full_disk_behind_the_output_ends_no_work(tmp_path: Path) -> None:
    """What is said to a log file without room is lost."""
    says = "\n".join(line for line in SAYS.splitlines() if "outlive" not in line and "print" not in line)
    command = [sys.executable, "-c", says, str(tmp_path / "out")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, timeout=60)
    assert done.returncode == 0 and (tmp_path / "out").read_text() == "done"


def test_a_pipe_that_is_closed_early_ends_no_command(tmp_path: Path) -> None:
    """`weathervane retrain | head -1`: as text and as JSON lines, what is left to say is lost, and the work is done."""
    says = "\n".join(line for line in SAYS.splitlines() if "outlive" not in line and "stderr" not in line)
    says = says.replace('    print("x" * 100_000, flush=True)\n', "")
    for form in ("text", "json"):
        out = tmp_path / form
        process = subprocess.Popen(
            [sys.executable, "-c", says, str(out)],
            env=os.environ | {"WEATHERVANE_LOG": form},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"heard\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 0 and out.read_text() == "done"
