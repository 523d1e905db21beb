"""The scorer of a home as its own process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from feedback.scoring import scorer_socket
from feedback.settings import Settings
from tests.serve.conftest import ROOT
from tests.waiting import wait_for


@contextmanager
def running_scorer(settings: Settings, **variables: str) -> Iterator[None]:
    """It listens, and ends with the block; what it says is in the home."""
    environment = os.environ | {
        "TANDEM_HOME": str(settings.home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables
    }  # fmt: skip
    with (settings.home / "scorer.log").open("wb") as log:
        scorer = subprocess.Popen(
            [sys.executable, "-m", "learner.scorer"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(scorer_socket(settings.run_dir).exists, 300, "the scorer", by=scorer)
        yield
    finally:
        scorer.terminate()
        scorer.wait(timeout=60)
        scorer_socket(settings.run_dir).unlink(missing_ok=True)
