"""Work that gives way to what writes replies.

To have what nobody else wants of a processor disturbs least: whoever wakes up for a token goes first at once. But where
nothing is left over that is next to nothing, so it lasts for `IDLE_S` only. A process that has lowered its priority
may not raise it again without the right to (CAP_SYS_NICE, or RLIMIT_NICE). Where Linux shares processors among sessions
(autogroup) priorities count within one: the processes of a stack share theirs. Linux only: elsewhere nothing gives way.
"""

import contextlib
import os
import sys
import threading

# A tenth of what a competitor of usual priority gets.
NICENESS = 10
IDLE_S = 2.0


def give_way() -> None:
    """Of this thread only, and for good."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def wait_for_idle(thread_id: int) -> None:
    """The thread, or the only thread of the process, has what nobody else wants from now on, if it has not ended."""
    if sys.platform == "linux":
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(thread_id, os.SCHED_IDLE, os.sched_param(0))


def wait_no_longer(thread_id: int) -> bool:
    """Its priority counts again; False where that is not allowed."""
    if sys.platform == "linux":
        try:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread_id, os.SCHED_OTHER, os.sched_param(0))
        except PermissionError:
            return False
    return True


def may_come_back() -> bool:
    """Whether a thread of this process that waits for idle processors could stop doing so."""
    answers = []

    def try_it() -> None:
        wait_for_idle(0)
        answers.append(wait_no_longer(0))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return answers == [True]
