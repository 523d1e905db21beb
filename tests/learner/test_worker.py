"""Hints for an iteration that has ended start no process: a backlog of them would keep the next iteration waiting."""

import os
import subprocess
import sys
from pathlib import Path

from feedback.store import iterations
from tests.records import empty_record

ASK = """
import subprocess, sys
from types import SimpleNamespace
from learner import worker
started = []
worker.subprocess = SimpleNamespace(
    DEVNULL=None, run=lambda command, **_: started.append(command[-1]) or SimpleNamespace(returncode=0)
)
for iteration in sys.argv[1:]:
    worker.run_iteration(iteration)
print(*started)
"""


def test_only_an_active_iteration_gets_a_process(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    ended = store.write(iterations.start, trigger="operator", seed=0, settings={})
    claimed = store.write(iterations.claim, ended.id, "test", 60.0, 5)
    assert claimed is not None
    store.write(iterations.fail, ended.id, claimed[1], "enough")
    queued = store.write(iterations.start, trigger="operator", seed=1, settings={})
    asked = [ended.id, "itr_unknown", queued.id]
    environment = os.environ | {"TANDEM_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *asked], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [queued.id]
    store.close()
