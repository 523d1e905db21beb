"""Priorities of threads, as the kernel has them."""

import os
import resource
import signal
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


def test_a_process_rests_while_it_works() -> None:
    before, handler = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, signal.getsignal(signal.SIGALRM)
    with giving_way.resting():
        work(0.05)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before >= 25
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is handler


def test_it_does_not_rest_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(giving_way, "RESTING_S", 0.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    with giving_way.resting():
        work(0.05)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before < 25


def test_a_thread_rests_between_what_it_works_on() -> None:
    def rests() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        for _ in giving_way.with_rests(range(20)):
            work(giving_way.WORK_S)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    # A rest is over before it begins where others take the processor in between.
    assert in_a_thread(rests) >= 10
