"""The process of one iteration: `python -m learner.iteration ID`."""

import logging
import signal
import sys

from feedback import logs, tracing
from feedback.errors import TandemError
from feedback.lifeline import die_with_parent
from feedback.settings import load_settings
from feedback.store import Store
from learner.iteration.process import run

log = logging.getLogger(__name__)


def main() -> int:
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings()
    logs.configure(settings)
    tracing.configure(settings.tracing, "learner")
    try:
        run(Store(settings.record_url), settings, sys.argv[1])
    except TandemError as error:
        log.error("%s", error.message)
        return error.exit_code
    finally:
        tracing.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
