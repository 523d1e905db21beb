"""Processes are kept running and ended; small programs stand where the stack's own would."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy import processes
from deploy.processes import Program, Supervised, tandem_programs
from feedback.settings import Settings
from tests.waiting import until

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEPS
FAILS = "print('cannot do it'); raise SystemExit(3)"


@pytest.fixture
def supervised(tmp_path: Path) -> Callable[..., Supervised]:
    def make(code: str, grace_s: float = 10) -> Supervised:
        program = Program("it", [sys.executable, "-c", code], tmp_path / "it.log", grace_s, {"GREETING": "hello"})
        return Supervised(program, lambda: None)

    return make


def said(process: Supervised) -> str:
    return process.program.log.read_text()


async def test_a_process_that_is_killed_is_started_again(supervised: Callable[..., Supervised]) -> None:
    process = supervised(SLEEPS)
    await process.start()
    first = process.state.pid
    assert first
    psutil.Process(first).kill()
    await until(lambda: process.state.state == "running" and process.state.pid != first)
    assert (process.state.restarts, process.state.exit_code) == (1, -signal.SIGKILL)
    await process.stop()


async def test_no_room_for_its_log_is_waited_out(
    supervised: Callable[..., Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE_S", 0.01)
    process = supervised(SLEEPS)
    await process.start()
    first = process.state.pid
    assert first
    process.program.log.unlink()
    process.program.log.mkdir()  # a path that cannot be opened, as on a full disk
    psutil.Process(first).kill()
    await until(lambda: process.quick_ends >= 3)
    process.program.log.rmdir()
    await until(lambda: process.state.state == "running" and process.state.pid != first)
    await process.stop()


def test_it_is_tried_again_for_ever() -> None:
    pauses = [processes.pause_s(ends) for ends in (1, 2, 3, 7, 2000, 1_000_000)]
    assert pauses == [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize("code", [0, 3])
async def test_whatever_its_exit_code_with_growing_pauses(
    supervised: Callable[..., Supervised], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE_S", 0.2)
    process = supervised(f"raise SystemExit({code})")
    began = time.monotonic()
    await process.start()
    await until(lambda: process.state.restarts == 4)
    assert time.monotonic() - began >= 0.2 + 0.4 + 0.8
    # It may have ended once more by now.
    assert process.quick_ends >= 4
    assert process.state.exit_code == code
    await process.stop()


async def test_what_it_says_goes_to_its_log_which_is_closed_to_others(supervised: Callable[..., Supervised]) -> None:
    process = supervised("import os; print(os.environ['GREETING']); " + FAILS)
    await process.start()
    await until(lambda: process.state.exit_code == 3)
    await process.stop()
    assert said(process).startswith("hello\ncannot do it\n")
    assert process.last_words() == "cannot do it"
    assert process.program.log.stat().st_mode & 0o777 == 0o600


async def test_stopping_is_final(supervised: Callable[..., Supervised]) -> None:
    process = supervised(SLEEPS)
    await process.start()
    await until(lambda: "up" in said(process))
    pid = process.state.pid
    assert pid
    await process.stop()
    assert not psutil.pid_exists(pid)
    assert (process.state.state, process.state.exit_code) == ("ended", -signal.SIGTERM)


async def test_one_that_ignores_the_request_is_killed_after_its_grace(supervised: Callable[..., Supervised]) -> None:
    process = supervised(STUBBORN, grace_s=0.3)
    await process.start()
    await until(lambda: "up" in said(process))
    await process.stop()
    assert process.state.exit_code == -signal.SIGKILL


async def test_ctrl_c_does_not_reach_it(supervised: Callable[..., Supervised]) -> None:
    process = supervised("import os; print(os.getpgid(0) == os.getpid(), os.getsid(0), flush=True); " + SLEEPS)
    await process.start()
    await until(lambda: "up" in said(process))
    await process.stop()
    # The session is the supervisor's: priorities count among all that it keeps.
    assert said(process).startswith(f"True {os.getsid(0)}\n")


def test_the_programs_of_a_stack_keep_votes_and_learning_apart(tmp_path: Path) -> None:
    programs = {program.name: program for program in tandem_programs(Settings(home=tmp_path), {})}
    assert list(programs) == ["engines", "votes", "learner", "scheduler", "scorer", "api"]
    for name in ("votes", "learner"):
        command = programs[name].command
        assert command[command.index("-Q") + 1] == name
        assert command.index("--quiet") < command.index("worker"), "its banner is no line of a log"
