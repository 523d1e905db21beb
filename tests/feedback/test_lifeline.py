"""Whoever was started by a process that is gone by the time it asks the kernel to end with it ends at once."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from feedback.lifeline import tied

# Prints the command that it would start.
STARTER = "import json, sys; from feedback.lifeline import tied; print(json.dumps(tied(sys.argv[1:])))"
# Is killed before what it forks has come to itself.
FORKER = """
import os, signal, time
from feedback import lifeline

forker = os.getpid()

def outlive():
    while os.getppid() == forker:
        time.sleep(0.001)

os.register_at_fork(after_in_child=outlive)
lifeline.tie_forks()
if os.fork() == 0:
    print("outlived", flush=True)
    os._exit(0)
os.kill(forker, signal.SIGKILL)
"""


def test_a_command_whose_starter_is_gone_does_not_run(tmp_path: Path) -> None:
    file = tmp_path / "it-ran"
    starter = subprocess.run([sys.executable, "-c", STARTER, "touch", file], capture_output=True, check=True)
    assert subprocess.run(json.loads(starter.stdout), check=False).returncode == -signal.SIGKILL
    assert not file.exists()
    subprocess.run(tied(["touch", str(file)]), check=True)
    assert file.exists()


def test_a_fork_whose_forker_is_gone_does_not_run() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKER], stdout=subprocess.PIPE) as forker:
        assert forker.stdout is not None
        assert forker.stdout.read() == b"", "when both have ended"
    assert forker.returncode == -signal.SIGKILL
