import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import running
from deploy.doctor import examine
from deploy.running import (
    HomeInUse,
    ProcessState,
    StackState,
    forget_state,
    is_held,
    prepare_home,
    read_state,
    runs_by_itself,
    take_home,
    write_state,
)
from feedback.errors import Conflict
from feedback.scoring import scorer_socket
from feedback.settings import load_settings
from serve.engine.launcher_protocol import COMMAND_SOCKET, engine_socket
from tests.deploy.command_line import in_process
from tests.deploy.homes import engines_alone

STATE = StackState(1234, "ready", "http://127.0.0.1:1", 5.0, [ProcessState("api", "running", 7, 1, -9)])


def test_a_home_has_one_supervisor_at_a_time(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    assert not is_held(tmp_path)
    with take_home(tmp_path):
        assert is_held(tmp_path)
        write_state(tmp_path, STATE)
        with pytest.raises(HomeInUse, match="in use by process 1234"):
            take_home(tmp_path)
    assert not is_held(tmp_path)
    take_home(tmp_path).close()


def test_a_home_that_something_else_runs_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TANDEM_DATABASE_URL", raising=False)
    monkeypatch.setattr(running, "ENGINES_PATIENCE_S", 0.1)
    tandem = in_process(capfd)
    prepare_home(tmp_path)
    with engines_alone(tmp_path):
        assert runs_by_itself(tmp_path)
        with pytest.raises(HomeInUse, match="were started by something else than `tandem up`"):
            take_home(tmp_path)
        assert not is_held(tmp_path)
        for command in ("down", "status"):
            ran = tandem(command, "--home", tmp_path)
            assert ran.exit_code != 0 and "by something else" in ran.err
        assert json.loads(tandem("status", "--json", "--home", tmp_path).out)["state"] == "unknown"
        kept = tandem("keys", "create", "--role", "chat", "--home", tmp_path)
        assert kept.exit_code == 3 and not (tmp_path / "record.db").exists(), "its record is another, which it is given"
        found = {finding.what: finding for finding in examine(load_settings(home=tmp_path))}
        assert found["stack"].verdict == "ok" and "by something else" in found["stack"].found
        assert found["record"].found == "not there, but Tandem runs here"
    assert not runs_by_itself(tmp_path)
    take_home(tmp_path).close()


def test_engines_that_end_late_after_their_supervisor_are_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where it was killed, and the machine is busy."""
    prepare_home(tmp_path)
    for wait in (lambda: take_home(tmp_path).close(), lambda: in_process(capfd)("down", "--home", tmp_path).exit_code):
        ending = threading.Timer(1.5, engines_alone(tmp_path).close)
        ending.start()
        assert not wait()
        ending.join()
        (tmp_path / "run" / COMMAND_SOCKET).unlink()


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
def test_what_a_home_holds_is_not_taken_into_the_repository_it_stands_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare_home(home)
    weights, set_aside = "policies/v0/model.safetensors", "imports/hh.jsonl.0.jsonl"
    for name in (
        "operator.key",
        "record.db",
        "record.db-wal",
        ".restoring/record.db",
        weights,
        set_aside,
        "redis/dump.rdb",
    ):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    (home / "logs" / "api.log").touch()
    (home / "tandem.toml").touch()
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "--all"], check=True)
    taken = subprocess.run(["git", "-C", tmp_path, "ls-files"], check=True, capture_output=True, text=True).stdout
    assert taken.split() == ["home/.gitignore", "home/tandem.toml"]

    (home / ".gitignore").write_text("of somebody\n")
    prepare_home(home)
    assert (home / ".gitignore").read_text() == "of somebody\n"


def test_what_was_written_down_counts_only_while_its_writer_runs(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    with take_home(tmp_path):
        assert read_state(tmp_path) is None
        write_state(tmp_path, STATE)
        assert read_state(tmp_path) == STATE
        forget_state(tmp_path)
        assert read_state(tmp_path) is None
        write_state(tmp_path, STATE)
    assert read_state(tmp_path) is None


def test_a_clock_that_was_set_back_makes_no_stack_run_for_less_than_no_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare_home(tmp_path)
    with take_home(tmp_path):
        write_state(tmp_path, replace(STATE, started_at=time.time() + 7200))
        assert in_process(capfd)("status", "--home", tmp_path).err.rstrip().endswith("up 0 min 0 s")


def test_what_a_killed_supervisor_left_is_not_taken_for_that_of_the_next_one(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    write_state(tmp_path, STATE)
    with take_home(tmp_path):
        assert read_state(tmp_path) is None
    # Not either while its engines are waited for: who ends it would signal whatever has its number now.
    write_state(tmp_path, STATE)
    seen: list[StackState | None] = []
    with engines_alone(tmp_path) as engines:
        looking = threading.Timer(0.5, lambda: (seen.append(read_state(tmp_path)), engines.close()))
        looking.start()
        take_home(tmp_path).close()
    looking.join()
    assert seen == [None]


SLOW_TO_SAY_WHO_IT_IS = """
import os, pathlib, signal, sys, time
from deploy.running import StackState, take_home, write_state
home, asked = pathlib.Path(sys.argv[1]), []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
with take_home(home):
    print("held", flush=True)
    if sys.stdin.readline():
        write_state(home, StackState(os.getpid(), "starting", "", 0.0))
        until = time.monotonic() + 60
        while not asked and time.monotonic() < until:
            time.sleep(0.01)
    sys.exit(not asked)
"""


def test_one_that_has_not_said_yet_who_it_is_is_ended_too(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    with start([sys.executable, "-c", SLOW_TO_SAY_WHO_IT_IS, str(tmp_path)]) as supervisor:
        assert supervisor.stdin and supervisor.stdout and supervisor.stdout.readline() == "held\n"
        with start([sys.executable, "-m", "deploy.command", "down", "--home", str(tmp_path)]) as down:
            with pytest.raises(subprocess.TimeoutExpired):
                down.wait(4)
            supervisor.stdin.write("go\n")
            supervisor.stdin.flush()
            assert supervisor.wait(60) == 0
            assert down.wait(60) == 0


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_home_that_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    assert not is_held(tmp_path / "file")


def test_the_folder_of_the_sockets_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    prepare_home(tmp_path)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


def test_a_path_is_taken_as_long_as_every_socket_fits(tmp_path: Path) -> None:
    room = 107 - len(os.fsencode(tmp_path / "run" / "engine-0.sock")) - 1
    longest, too_long = tmp_path / ("d" * room), tmp_path / ("d" * (room + 1))
    prepare_home(longest)
    run_dir = load_settings(home=longest).run_dir
    for path in (engine_socket(run_dir, 7), run_dir / COMMAND_SOCKET, scorer_socket(run_dir), run_dir / "redis.sock"):
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    with pytest.raises(Conflict, match="by 1 bytes"):
        prepare_home(too_long)


def test_a_home_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Conflict, match="cannot be used"):
        prepare_home(tmp_path / "file" / "home")
    with pytest.raises(Conflict, match="file is no folder"):
        prepare_home(tmp_path / "file")
    with pytest.raises(Conflict, match="too long for unix sockets by"):
        prepare_home(tmp_path / ("d" * 120))
