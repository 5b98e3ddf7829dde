"""What a flow run says when its worker is gone."""

import os
import subprocess
import sys
from pathlib import Path

SAYS = """
import sys, time
from flows.unheard import outlive_the_reader
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
