"""A further machine of a learner on several: `python -m learner.node N`, with N from 1 to `learner.nodes` - 1.

The first machine, number 0, is where the learner's worker runs. Whenever an iteration is under way there, this process
starts torchrun, which meets the first machine's at `learner.rendezvous`; what is to be done its processes are told. One
that ends early, because the iteration was killed or this machine was cut off, is followed by the next.
"""

import logging
import signal
import subprocess
import sys
import threading

from feedback import logs, temporary_folder
from feedback.errors import RecordUnavailable, SettingsInvalid, TandemError
from feedback.lifeline import tied
from feedback.settings import Settings, load_settings
from feedback.store import Store, iterations
from learner.torchrun import torchrun

LOOK_INTERVAL_S = 1.0

log = logging.getLogger(__name__)


def main() -> int:
    settings = load_settings()
    logs.configure(settings)
    temporary_folder.take()
    try:
        serve(settings, number_of(sys.argv[1:], settings))
    except TandemError as error:
        log.error("%s", error.message)
        return error.exit_code
    return 0


def number_of(arguments: list[str], settings: Settings) -> int:
    """The number that the command line gives this machine. Raises SettingsInvalid."""
    nodes = settings.learner.nodes
    if nodes == 1:
        raise SettingsInvalid("learner.nodes is 1: there is no further machine; set it, and learner.rendezvous")
    if len(arguments) != 1 or not arguments[0].isdecimal() or not 1 <= int(arguments[0]) < nodes:
        raise SettingsInvalid(f"say which machine this is: python -m learner.node N, with N from 1 to {nodes - 1}")
    return int(arguments[0])


def serve(settings: Settings, node: int) -> None:
    """Join in one iteration after the other, until SIGTERM."""
    store = Store(settings.record_url)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    log.info("machine %d of %d waits for iterations", node, settings.learner.nodes)
    while not stopping.wait(LOOK_INTERVAL_S):
        if _is_wanted(store):
            _join_in(settings, node, stopping)
    store.close()


def _is_wanted(store: Store) -> bool:
    """Whether an iteration has begun: one that is queued may wait for its worker for as long as that is off."""
    try:
        active = store.read(iterations.active)
    except RecordUnavailable as error:
        log.warning("%s", error.message)
        return False
    return active is not None


def _join_in(settings: Settings, node: int, stopping: threading.Event) -> None:
    with temporary_folder.for_a_child() as environment:
        process = subprocess.Popen(tied(torchrun(settings.learner, node)), stdin=subprocess.DEVNULL, env=environment)
        while process.poll() is None:
            if stopping.wait(LOOK_INTERVAL_S):
                process.terminate()
    if process.returncode and not stopping.is_set():
        log.warning("machine %d ended with code %d; it joins in again", node, process.returncode)


if __name__ == "__main__":
    sys.exit(main())
