"""Priorities of threads, as the kernel has them."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from feedback import giving_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")

T = TypeVar("T")


def in_a_thread(action: Callable[[], T]) -> T:
    """A thread of its own, since there may be no way back."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_gives_way_and_its_process_does_not() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def priority() -> int:
        giving_way.give_way()
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert in_a_thread(priority) == max(before, giving_way.NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_it_waits_and_comes_back_where_it_may() -> None:
    def policies() -> list[int]:
        giving_way.wait_for_idle(threading.get_native_id())
        waits = os.sched_getscheduler(0)
        comes_back = giving_way.wait_no_longer(threading.get_native_id())
        assert (os.sched_getscheduler(0) == os.SCHED_OTHER) is comes_back is giving_way.may_come_back()
        return [waits]

    assert in_a_thread(policies) == [os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_without_the_right_there_is_no_way_back() -> None:
    code = "import os; from feedback import giving_way; os.setuid(65534); print(giving_way.may_come_back())"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"


def test_what_has_ended_gives_way() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    giving_way.wait_for_idle(ended.pid)
    assert giving_way.wait_no_longer(ended.pid)


def work(seconds: float) -> None:
    """Of a processor."""
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        pass


WORK = """
import resource, signal, time
from feedback import giving_way
giving_way.RESTING_S = {resting_s}
before, handler = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, signal.getsignal(signal.SIGALRM)
began = time.process_time()
with giving_way.resting():
    while time.process_time() < began + 0.05:
        pass
    rests_on = signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before, rests_on)
assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
assert signal.getsignal(signal.SIGALRM) is handler
"""


def rested(resting_s: float) -> tuple[int, bool]:
    """How often a process that works for .05 s lay still, and whether it rests on. Its own: others have threads."""
    command = [sys.executable, "-c", WORK.format(resting_s=resting_s)]
    times, rests_on = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return int(times), rests_on == "True"


def test_a_process_rests_while_it_works() -> None:
    times, rests_on = rested(giving_way.RESTING_S)
    assert times >= 25
    assert rests_on


def test_it_does_not_rest_for_ever() -> None:
    times, rests_on = rested(0.0)
    assert times < 25
    assert not rests_on


def test_a_thread_rests_between_what_it_works_on() -> None:
    def rests() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        for _ in giving_way.with_rests(range(20)):
            work(giving_way.WORK_S)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    # A rest is over before it begins where others take the processor in between.
    assert in_a_thread(rests) >= 10
