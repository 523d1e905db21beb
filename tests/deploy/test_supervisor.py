import asyncio
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from deploy.announcer import Announcer
from deploy.bootstrap import chosen_device
from deploy.operator_key import ensure_operator_key
from deploy.processes import Program, Supervised
from deploy.running import is_held, prepare_home
from deploy.supervisor import (
    NO_TEMPLATE,
    PortInUse,
    Stack,
    StartFailed,
    free_port,
    is_ready,
    prepare_policy,
    run_stack,
    why_silent,
)
from feedback.errors import Conflict, PolicyInvalid
from feedback.settings import ServeSettings, Settings
from feedback.store import keys, now
from tests.deploy.command_line import ROOT, in_process
from tests.deploy.homes import make_home, refuse_system_messages
from tests.records import empty_record
from tests.waiting import wait_for


def test_a_port_in_use_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} of 127.0.0.1 is in use"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port


def test_port_0_is_a_free_one() -> None:
    port = free_port("127.0.0.1", 0)
    socket.create_server(("127.0.0.1", port)).close()


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(Conflict, match=r"cannot listen on 192\.0\.2\.1"):
        free_port("192.0.2.1", 8080)


def test_nothing_there_is_neither_ready_nor_answering(tmp_path: Path) -> None:
    assert not is_ready("127.0.0.1", free_port("127.0.0.1", 0))
    assert "No such file" in (why_silent(f"redis+socket://{tmp_path}/redis.sock") or "")
    for asked in ("db=x", "nosuch=1"):
        said = why_silent(f"redis://:secret@127.0.0.1:1/0?{asked}") or ""
        assert asked.partition("=")[0] in said and "secret" not in said


def test_a_part_that_cannot_come_up_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_ENGINE__DEVICE", "cuda" if chosen_device() == "cpu" else "cpu")
    settings = Settings(home=tmp_path, serve=ServeSettings(port=0))
    with pytest.raises(
        StartFailed, match=r"engines ended with code 2: .*engine\.device is .*make env \(see .*engines\.log"
    ):
        run_stack(settings, Announcer())
    assert not is_held(tmp_path)


def test_a_system_prompt_that_what_serves_does_not_take_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, serve=ServeSettings(port=0, system_prompt="Be kind."))
    make_home(settings, versions=1).close()
    refuse_system_messages(settings, 0)
    with pytest.raises(PolicyInvalid, match=r"system_prompt cannot be had with v0.*no system"):
        run_stack(settings, Announcer())
    assert not is_held(tmp_path)


def test_a_home_that_lost_its_record_is_not_begun_anew(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, serve=ServeSettings(port=0))
    make_home(settings, versions=1).close()
    for file in tmp_path.glob("record.db*"):
        file.unlink()
    with pytest.raises(Conflict, match="holds policies and no record: set TANDEM_DATABASE_URL"):
        run_stack(settings, Announcer())
    (tmp_path / "policies").rename(tmp_path / ".restoring")
    with pytest.raises(Conflict, match=r"holds \.restoring and no record"):
        run_stack(settings, Announcer())
    assert not is_held(tmp_path) and not (tmp_path / "record.db").exists()


def test_what_a_restore_left_that_was_killed_at_its_end_goes_with_the_next_start(tmp_path: Path) -> None:
    make_home(Settings(home=tmp_path), versions=1).close()
    (tmp_path / ".restoring" / "datasets").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortInUse):
        run_stack(Settings(home=tmp_path, serve=ServeSettings(port=taken.getsockname()[1])), Announcer())
    assert not (tmp_path / ".restoring").exists() and (tmp_path / "policies" / "v0").is_dir()


def test_a_home_whose_record_was_emptied_is_not_begun_anew(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=tmp_path, serve=ServeSettings(port=0))
    make_home(settings, versions=1).close()
    for file in tmp_path.glob("record.db*"):
        file.unlink()
    (tmp_path / "record.db").touch()
    with pytest.raises(Conflict, match="holds policies and a record without tables: set TANDEM_DATABASE_URL"):
        run_stack(settings, Announcer())
    # Nor by a command that would make one, which the next start would take for the home's own.
    for lose in (lambda: None, (tmp_path / "record.db").unlink):
        lose()
        refused = in_process(capfd)("keys", "create", "--role", "chat", "--home", tmp_path)
        assert refused.exit_code != 0 and f"{tmp_path} holds policies and " in refused.err
    assert not (tmp_path / "record.db").exists()


def test_why_no_engine_starts_is_told_once_while_it_is_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare_home(tmp_path)
    log = tmp_path / "logs" / "api.log"
    log.write_text("WARNING engine 0 did not start: of the last start\n")
    stack = Stack(Settings(home=tmp_path), free_port("127.0.0.1", 0), Announcer())
    for line in (
        "2026-11-29 15:06:19 WARNING serve.engine.supervision: engine 1 did not start: it differs\n",
        '{"level": "WARNING", "message": "engine 0 did not start: it differs", "process": 7}\n',
    ):
        with log.open("a") as more:
            more.write(line)
        assert not stack._is_ready()
    assert capfd.readouterr().err == "! an engine did not start, and is tried again: it differs\n"


def test_that_a_policy_has_no_chat_template_is_told(tmp_path: Path) -> None:
    policy = shutil.copytree(ROOT / "learner" / "starting_policy" / "weights", tmp_path / "base")
    tokenizer = json.loads((policy / "tokenizer_config.json").read_text())
    del tokenizer["chat_template"]
    (policy / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    settings = Settings(home=tmp_path / "home", policy=str(policy))
    prepare_home(settings.home)
    environment = {"TANDEM_HOME": str(settings.home), "TANDEM_POLICY": settings.policy, "TANDEM_LOG_FORMAT": "json"}
    said = asyncio.run(prepare_policy(settings, environment))
    turns = f"{policy} has no chat template; turns are written as Human: and Assistant:"
    assert NO_TEMPLATE.findall(said) == [turns] == NO_TEMPLATE.findall(f"12:00 WARNING __main__: {turns}\n12:01 INFO")


def test_a_state_that_cannot_be_written_down_ends_nothing_and_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare_home(tmp_path)
    stack = Stack(Settings(home=tmp_path), 1, Announcer())
    in_the_way = tmp_path / "run" / "supervisor.part"
    in_the_way.mkdir()
    program = Program("it", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "it.log", grace_s=10)

    async def run() -> None:
        process = Supervised(program, stack._write_down)
        stack.processes.append(process)
        await process.start()
        await process.stop()

    asyncio.run(run())
    assert capfd.readouterr().err.count("what `tandem status` says is old") == 1
    in_the_way.rmdir()
    stack._write_down()
    assert stack.written
    assert json.loads((tmp_path / "run" / "supervisor.json").read_text())["processes"][0]["state"] == "ended"


FINISHES = """
import pathlib, signal, sys, time
up, asked, may_end = map(pathlib.Path, sys.argv[1:])

def finish(*_):
    asked.touch()
    while not may_end.exists():
        time.sleep(0.01)
    sys.exit(0)

signal.signal(signal.SIGTERM, finish)
up.touch()
time.sleep(600)
"""


@pytest.mark.parametrize(("again", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, -signal.SIGKILL)])
def test_two_who_ask_it_to_end_do_not_cut_off_what_is_in_flight(
    tmp_path: Path, again: signal.Signals, code: int
) -> None:
    """Ctrl-C for a second time does."""
    prepare_home(tmp_path)
    stack = Stack(Settings(home=tmp_path), 1, Announcer())
    up, asked, may_end = (tmp_path / name for name in ("up", "asked", "may_end"))
    command = [sys.executable, "-c", FINISHES, str(up), str(asked), str(may_end)]
    program = Program("api", command, tmp_path / "it.log", grace_s=600)

    async def run() -> None:
        process = Supervised(program, stack._write_down)
        stack.processes.append(process)
        await process.start()
        while not up.exists():
            await asyncio.sleep(0.02)
        stack._asked_to_end(signal.SIGTERM)
        ending = asyncio.create_task(process.stop())
        while not asked.exists():
            await asyncio.sleep(0.02)
        stack._asked_to_end(again)
        if not code:
            may_end.touch()
        await ending
        assert process.state.exit_code == code

    asyncio.run(run())


ONE_PROGRAM = """
import asyncio, sys
from pathlib import Path
from deploy.announcer import Announcer
from deploy.processes import Program, Supervised
from deploy.running import prepare_home
from deploy.supervisor import Stack
from feedback.settings import Settings

home = Path(sys.argv[1])

class OneProgram(Stack):
    async def _start(self):
        program = Program("api", [sys.executable, "-c", *sys.argv[2:]], home / "it.log", grace_s=600)
        await self._run_process(Supervised(program, self._write_down))

prepare_home(home)
asyncio.run(OneProgram(Settings(home=home), 1, Announcer()).run())
"""


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_goes_ends_it_in_order_unless_it_was_told_to_stay(tmp_path: Path, nohup: bool) -> None:
    up, asked, may_end = (tmp_path / name for name in ("up", "asked", "may_end"))
    controlling, its = pty.openpty()

    def in_the_terminal() -> None:
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-c", ONE_PROGRAM, tmp_path, FINISHES, up, asked, may_end],
        stdout=its,
        stderr=subprocess.DEVNULL if nohup else its,
        start_new_session=True,
        preexec_fn=in_the_terminal,  # noqa: PLW1509
    )
    os.close(its)
    try:
        wait_for(up.exists, 60, "it to come up", by=process)
        os.close(controlling)
        if nohup:
            caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
            assert caught is not None and not int(caught[1], 16) & 1 << signal.SIGHUP - 1
            process.send_signal(signal.SIGTERM)
        wait_for(asked.exists, 60, "it to be asked to end", by=process)
        may_end.touch()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def test_the_operators_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    path = ensure_operator_key(store, tmp_path)
    secret = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    found = store.read(keys.find, secret)
    assert found is not None and found.key.role == "operate"
    assert ensure_operator_key(store, tmp_path).read_text().strip() == secret
    store.close()


def test_a_new_record_gets_a_new_operators_key(tmp_path: Path) -> None:
    (tmp_path / "operator.key").write_text("tdm_of_another_record\n")
    store = empty_record(tmp_path / "record.db")
    secret = ensure_operator_key(store, tmp_path).read_text().strip()
    assert store.read(keys.find, secret) is not None
    store.close()


def test_an_expired_operators_key_is_replaced_by_the_next_start(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    _, secret = store.write(keys.create, "operate", expires_at=store.read(now) + 0.2)
    (tmp_path / "operator.key").write_text(secret + "\n")
    wait_for(lambda: keys.state(store.read(keys.list_all)[0], store.read(now)) != "active", 60, "the key to expire")
    renewed = ensure_operator_key(store, tmp_path).read_text().strip()
    assert renewed != secret
    assert store.read(keys.find, renewed) is not None
    store.close()


def test_a_revoked_operators_key_is_replaced_by_the_next_start(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    before = ensure_operator_key(store, tmp_path).read_text().strip()
    found = store.read(keys.find, before)
    assert found is not None
    store.write(keys.revoke, found.key.id)
    after = ensure_operator_key(store, tmp_path).read_text().strip()
    assert after != before and store.read(keys.find, after) is not None
    store.close()
