"""A whole stack, started by the command: it comes up, does what the README says, comes back, and goes down with nothing
left."""

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.running import StackState, is_held, read_state
from feedback.settings import Settings
from feedback.temporary_folder import PREFIX
from tests.deploy.command_line import ROOT, start
from tests.ports import free_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

START_TIMEOUT_S = 400.0
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Votes and steps enough to see every command work; tests/test_loop.py sees that the loop learns.
QUICK = {
    "TANDEM_LOOP__MIN_VOTES": "10",
    "TANDEM_LEARNER__PPO__STEPS": "1",
    "TANDEM_LEARNER__EVALUATION__PROMPTS": "32",
}


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """What the stack takes for the machine's temporary folder. Its path is short, for there are sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[Path]:
    """A home whose stack was started in the background; ended after the tests, if they did not do it. Its folder looks
    to the README's commands like a checkout after `make run`."""
    home = tmp_path_factory.mktemp("stack") / ".tandem"
    tandem = home.parent / ".venv" / "bin" / "tandem"
    tandem.parent.mkdir(parents=True)
    python = f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
    tandem.write_text(f'#!/bin/sh\n{python} -m deploy.command "$@"\n')
    tandem.chmod(0o755)
    assert "the built-in policy is a toy" in start_stack(home, temporary).stderr
    yield home
    state = read_state(home)
    if state is not None:
        os.kill(state.pid, signal.SIGKILL)


@pytest.fixture
def home(started: Path, temporary: Path) -> Path:
    """The same; it runs, also after a test that ended it."""
    if read_state(started) is None:
        start_stack(started, temporary)
    return started


def start_stack(home: Path, temporary: Path) -> "subprocess.CompletedProcess[str]":
    done = run("up", "--home", home, "--port", free_port(), "--detach", **QUICK, TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert str(home / "operator.key") in done.stdout
    return done


def run(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    with start(*arguments, variables=variables) as process:
        out, err = process.communicate(timeout=START_TIMEOUT_S)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def state_of(home: Path) -> StackState:
    state = read_state(home)
    assert state is not None
    return state


def chat(home: Path) -> httpx.Response:
    key = (home / "operator.key").read_text().strip()
    body = {"model": "tandem", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    headers = {"authorization": f"Bearer {key}"}
    url = f"{state_of(home).url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)


def test_it_serves_with_the_key_that_it_left(home: Path) -> None:
    answer = chat(home)
    assert answer.status_code == 200, answer.text
    # The README's commands promote v1.
    assert answer.json()["system_fingerprint"] in ("v0", "v1")


def test_nothing_of_a_home_is_open_to_others(home: Path) -> None:
    assert stat.S_IMODE((home / "operator.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "run").stat().st_mode) == 0o700
    listening = set()
    for process in psutil.Process(state_of(home).pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # some live for a moment only
            connections = process.net_connections("inet")
            listening |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_second_one_for_the_home_is_refused(home: Path) -> None:
    second = run("up", "--home", home, "--port", 0)
    assert second.returncode == 1
    assert f"{home} is in use by process {state_of(home).pid}" in second.stderr
    assert second.stderr.count("\n") == 1


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("up", "--home", tmp_path / "home", "--port", port)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"tandem: port {port} of 127.0.0.1 is in use")
    assert not (tmp_path / "home" / "record.db").exists()


def test_status_and_doctor_see_it(home: Path) -> None:
    said = run("status", "--home", home, "--json")
    assert said.returncode == 0
    told = json.loads(said.stdout)
    assert told["state"] == "ready"
    names = [process["name"] for process in told["processes"] if process["state"] == "running"]
    assert sorted(names) == ["api", "engines", "learner", "redis", "scheduler", "scorer", "votes"]
    findings = {found["what"]: found["verdict"] for found in json.loads(run("doctor", "--home", home, "--json").stdout)}
    assert findings["stack"] == findings["home"] == "ok"
    # With a note where it was started again since.
    assert findings["engines"] in ("ok", "note")


def test_every_command_of_the_readme(home: Path) -> None:
    """Typed, with the stack's port and few votes, each succeeds."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    commands = [(language, text) for language, text in blocks if language in ("bash", "python")]
    assert len(commands) >= 6
    key = (home / "operator.key").read_text().strip()
    user = os.environ | {"TANDEM_HOME": str(home), "TANDEM_URL": state_of(home).url, "TANDEM_KEY": key}
    for language, text in commands:
        typed = text.replace("http://127.0.0.1:8080", state_of(home).url).replace("--votes 600", "--votes 60")
        program = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run([*program, typed], cwd=home.parent, env=user, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{typed}\n{done.stdout}\n{done.stderr}"
        # curl succeeds on an HTTP error as well.
        assert '"error"' not in done.stdout and '"title"' not in done.stdout, f"{typed}\n{done.stdout}"


@pytest.mark.parametrize(
    "name", ["redis", "votes", "scheduler", "api", pytest.param("engines", marks=pytest.mark.slow)]
)
def test_what_is_killed_comes_back(home: Path, name: str) -> None:
    def pid() -> int | None:
        return next(process.pid for process in state_of(home).processes if process.name == name)

    killed = pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: pid() not in (None, killed), 120, f"another {name}")

    def serves() -> bool:
        try:
            return chat(home).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(serves, 120, "a chat to be answered")


@pytest.mark.slow
def test_a_log_that_grew_too_large_is_set_aside_while_its_process_runs(home: Path) -> None:
    log, aside = home / "logs" / "api.log", home / "logs" / "api.log.1"
    os.truncate(log, Settings().log_bytes + 1)
    wait_for(lambda: aside.exists() and log.stat().st_size < aside.stat().st_size, 120, "the log to be set aside")
    assert chat(home).status_code == 200
    wait_for(lambda: "POST /v1/chat/completions" in log.read_text(), 120, "the chat to be logged")


def test_nothing_outlives_a_kill_and_the_next_start_takes_down_in_order(home: Path, temporary: Path) -> None:
    supervisor = psutil.Process(state_of(home).pid)
    everything = supervisor.children(recursive=True)
    assert len(everything) >= 8
    supervisor.kill()
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert alive == []
    assert run("status", "--home", home).returncode == 4

    assert len([*temporary.glob(f"{PREFIX}*")]) == 3, "of the engines and of the two workers"
    with start("up", "--home", home, "--port", free_port(), variables={"TMPDIR": str(temporary)}) as again:
        assert again.stdout is not None and again.stderr is not None
        assert "operator.key" in again.stdout.readline()
        assert chat(home).status_code == 200
        everything = psutil.Process(again.pid).children(recursive=True)
        again.send_signal(signal.SIGINT)
        assert again.wait(60) == 0
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert alive == []
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")] == []
    assert not is_held(home)
    assert run("down", "--home", home).stderr == f"nothing runs for {home}\n"
