"""The process of one iteration: `python -m learner.iteration ID`, alone or under torchrun.

With `learner.processes` or `learner.nodes` above 1 it becomes torchrun, which starts so many of it.
"""

import logging
import os
import signal
import sys

from feedback import logs, tracing
from feedback.errors import TandemError
from feedback.giving_way import give_way
from feedback.lifeline import die_with_parent
from feedback.settings import load_settings
from feedback.store import Store
from learner.iteration.process import open_run, run
from learner.iteration.together import follow
from learner.processes import join, leave, under_torchrun
from learner.torchrun import torchrun

log = logging.getLogger(__name__)


def main() -> int:
    die_with_parent()
    settings = load_settings()
    give_way(settings.learner.niceness)
    logs.configure(settings)
    if settings.learner.processes * settings.learner.nodes > 1 and not under_torchrun():
        # What was asked of the kernel above holds for torchrun too.
        os.execv(sys.executable, torchrun(settings.learner, 0, sys.argv[1]))
    processes = join()
    tracing.configure(settings.tracing, "learner")
    store = Store(settings.record_url)
    try:
        if processes.first:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            run(store, settings, sys.argv[1], processes)
        else:
            follow(store, settings, processes, open_run)
        leave()
    except TandemError as error:
        log.error("%s", error.message)
        return error.exit_code
    finally:
        tracing.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
