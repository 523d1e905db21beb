"""Work that gives way to what writes replies.

To have what nobody else wants of a processor disturbs least: whoever wakes up for a token goes first at once. But where
nothing is left over that is next to nothing, so it lasts for `IDLE_S` only. A process that has lowered its priority
may not raise it again without the right to (CAP_SYS_NICE, or RLIMIT_NICE). Where Linux shares processors among sessions
(autogroup) priorities count within one: the processes of a stack share theirs. Linux only: elsewhere nothing gives way.

Priorities say who goes first on a processor, not on which: one who always works has a processor while two that write
share the other one, for 20 to 50 ms. Where it rests, a processor is free for a moment, and takes over who waits there.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

# A tenth of what a competitor of usual priority gets.
NICENESS = 10
IDLE_S = 2.0
WORK_S = REST_S = 0.0005
# What an engine on a CPU serves is read by then; of more, nobody is to wait twice as long for all.
RESTING_S = 10.0

T = TypeVar("T")


def give_way(niceness: int = NICENESS) -> None:
    """Of this thread and those that it starts only, and for good."""
    if sys.platform == "linux":
        thread_id = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread_id, max(niceness, os.getpriority(os.PRIO_PROCESS, thread_id)))


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


@contextlib.contextmanager
def resting() -> Iterator[None]:
    """The process's main thread, and only there, rests as long as it works, for `RESTING_S`. It takes SIGALRM."""
    if sys.platform != "linux":
        yield
        return
    ends = time.monotonic() + RESTING_S

    def rest(*_: object) -> None:
        if time.monotonic() < ends:
            time.sleep(REST_S)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, rest)
    signal.setitimer(signal.ITIMER_REAL, WORK_S, WORK_S + REST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def with_rests(items: Iterable[T]) -> Iterator[T]:
    """The items, for any thread: it rests between two of them where it has worked for `WORK_S` since it last did."""
    rested_at = time.perf_counter()
    for item in items:
        yield item
        if sys.platform == "linux" and time.perf_counter() - rested_at >= WORK_S:
            time.sleep(REST_S)
            rested_at = time.perf_counter()
