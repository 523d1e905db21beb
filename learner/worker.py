"""The worker that runs iterations: `celery -A learner.worker worker -Q learner --concurrency 1`.

The task is acknowledged before it runs, and a redelivered one finds the lease taken: the row in the record drives the
work, the message only wakes somebody up. The work itself is a process of its own, so that its memory and its GPU are
free again when it ends, and a crash in it does not take the worker along.
"""

import functools
import logging
import subprocess
import sys

from feedback import temporary_folder
from feedback.errors import NotFound, RecordUnavailable
from feedback.lifeline import tied
from feedback.queue import RUN_ITERATION, make_celery
from feedback.settings import load_settings
from feedback.store import Store, iterations

log = logging.getLogger(__name__)
settings = load_settings()
app = make_celery(settings)


@app.task(name=RUN_ITERATION, acks_late=False)
def run_iteration(iteration_id: str) -> None:
    """Run an iteration to its end, or as far as its process comes; the scheduler hands it on again if it died.

    Hints come every few seconds until a process has claimed the iteration, and are taken one after the other: for one
    that has ended no process is started, which would import for longer than it takes for the next hint to come.
    """
    if not _is_active(iteration_id):
        return
    with temporary_folder.for_a_child() as environment:
        ended = subprocess.run(
            # For as long as it imports, too.
            tied([sys.executable, "-m", "learner.iteration", iteration_id]),
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    if ended.returncode != 0:
        log.warning("the learner of %s ended with code %s", iteration_id, ended.returncode)


def _is_active(iteration_id: str) -> bool:
    try:
        return store_of_this_process().read(iterations.get, iteration_id).state in iterations.ACTIVE
    except (NotFound, RecordUnavailable) as error:
        log.warning("%s", error.message)
        return False


@functools.cache
def store_of_this_process() -> Store:
    """Opened by the first task, so after the fork: connections must not be shared between processes."""
    return Store(settings.record_url)
