"""The launcher's processes and protocol with small servers in the place of vLLM."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from feedback.errors import EngineUnavailable, InvalidRequest
from feedback.lifeline import tied
from serve.engine.launcher_client import LauncherClient
from serve.engine.launcher_protocol import SlotStatus

ROOT = Path(__file__).parents[3]

# What a slot does is named by its policy folder: "stubborn" ignores SIGTERM, "failing" ends at once, and each has a
# child, as vLLM's server has its engine.
SMALL_SERVERS = """
import os, signal, subprocess, sys, time
from pathlib import Path
from feedback.lifeline import die_with_parent, tie_forks
from serve.engine import launcher

def serve(status):
    kind = Path(status.policy).name
    if kind == "failing":
        raise ValueError("no such weights")
    if kind == "leaving":
        return
    if os.fork() == 0:
        time.sleep(600)
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(status.socket + ".up").write_text(kind)
    time.sleep(600)

die_with_parent()
tie_forks()
launcher.GRACE_S = float(sys.argv[2])
launcher.Launcher(Path(sys.argv[1]), 2, serve).run()
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    with launcher(tmp_path):
        yield tmp_path


class launcher:  # noqa: N801 (reads as the function that it is)
    """A launcher of small servers that runs inside the block."""

    def __init__(self, run_dir: Path, *, grace_s: float = 15.0) -> None:
        self.run_dir, self.grace_s = run_dir, grace_s

    def __enter__(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", SMALL_SERVERS, str(self.run_dir), str(self.grace_s)]
        self.process = subprocess.Popen(tied(command), cwd=ROOT)
        until = time.monotonic() + 120
        while not _listens(self.run_dir / "engines.sock"):
            assert self.process.poll() is None, "the launcher ended"
            assert time.monotonic() < until, "the launcher did not come up"
            time.sleep(0.05)
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def _listens(path: Path) -> bool:
    # It is there a moment before it listens.
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


@pytest.fixture
def client(run_dir: Path) -> LauncherClient:
    return LauncherClient(run_dir)


@pytest.fixture
def policy(tmp_path: Path) -> Callable[[str], Path]:
    def make(kind: str) -> Path:
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        return folder

    return make


async def until(reached: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await reached():
            await asyncio.sleep(0.02)


async def up(status: SlotStatus) -> None:
    async def written() -> bool:
        return Path(status.socket + ".up").exists()

    await until(written)


async def test_a_slot_is_started_and_told_about(client: LauncherClient, policy: Callable[[str], Path]) -> None:
    assert [status.state for status in await client.status()] == ["empty", "empty"]
    started = await client.restart(1, policy("plain"))
    await up(started)
    assert started.state == "running" and started.pid and psutil.pid_exists(started.pid)
    assert [status.state for status in await client.status()] == ["empty", "running"]


async def test_a_restart_brings_another_policy_whatever_the_server_does(
    client: LauncherClient, policy: Callable[[str], Path]
) -> None:
    first = await client.restart(0, policy("stubborn"))
    await up(first)
    second = await client.restart(0, policy("plain"))
    assert second.pid != first.pid and first.pid and not psutil.pid_exists(first.pid)
    assert (second.state, second.policy, second.exit_code) == ("running", str(policy("plain")), None)


async def test_two_that_restart_a_slot_at_once_get_one_server_each(
    client: LauncherClient, policy: Callable[[str], Path]
) -> None:
    await client.restart(0, policy("plain"))
    one, other = await asyncio.gather(*(client.restart(0, policy("plain")) for _ in range(2)))
    assert one.state == other.state == "running" and one.pid != other.pid
    assert (await client.status())[0].pid in (one.pid, other.pid)


async def test_a_server_that_was_just_started_ends_when_asked(
    client: LauncherClient, policy: Callable[[str], Path]
) -> None:
    heard = client.watch()
    assert [(await anext(heard)).state for _ in range(2)] == ["empty", "empty"]
    for _ in range(10):
        started = await client.restart(0, policy("plain"))
        assert started.pid
        os.kill(started.pid, signal.SIGTERM)
        assert (await asyncio.wait_for(anext(heard), 60)).exit_code == -signal.SIGTERM
    await heard.aclose()  # type: ignore[attr-defined]


async def test_servers_end_with_the_launcher(tmp_path: Path, policy: Callable[[str], Path]) -> None:
    with launcher(tmp_path, grace_s=600.0) as process:
        client = LauncherClient(tmp_path)
        await up(await client.restart(0, policy("plain")))
        heard = client.watch()
        assert [(await anext(heard)).state for _ in range(2)] == ["running", "empty"]
        process.terminate()
        ended = await asyncio.wait_for(anext(heard), 60)
        assert (ended.slot, ended.exit_code, ended.asked) == (0, -signal.SIGTERM, True)
        await heard.aclose()  # type: ignore[attr-defined]


async def test_a_server_that_does_not_end_with_the_launcher_is_killed_after_its_grace(
    tmp_path: Path, policy: Callable[[str], Path]
) -> None:
    with launcher(tmp_path, grace_s=0.3) as process:
        client = LauncherClient(tmp_path)
        await up(await client.restart(0, policy("stubborn")))
        began = time.monotonic()
        process.terminate()
        process.wait(timeout=60)
        assert time.monotonic() - began >= 0.3


async def test_what_cannot_be_done_changes_nothing(client: LauncherClient, policy: Callable[[str], Path]) -> None:
    await client.restart(0, policy("plain"))
    before = await client.status()
    with pytest.raises(InvalidRequest, match="no slot 2"):
        await client.restart(2, policy("plain"))
    with pytest.raises(InvalidRequest, match=r"no config\.json"):
        await client.restart(0, Path("/nowhere"))
    assert await client.status() == before


@pytest.mark.parametrize(
    "line", [b"{}", b"not json", b"[1]", b'{"do": "restart"}', b'{"do": "restart", "slot": "0", "policy": "/"}']
)
async def test_a_line_that_makes_no_sense_is_refused_and_the_next_one_answered(run_dir: Path, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(run_dir / "engines.sock"))
    writer.write(line + b'\n{"do": "status"}\n')
    assert b'"ok": false' in await reader.readline()
    assert b'"ok": true' in await reader.readline()
    writer.close()


async def test_watchers_hear_of_every_end(client: LauncherClient, policy: Callable[[str], Path]) -> None:
    heard = client.watch()
    assert [(await anext(heard)).state for _ in range(2)] == ["empty", "empty"]
    started = await client.restart(0, policy("plain"))
    assert started.pid
    os.kill(started.pid, signal.SIGKILL)
    ended = await asyncio.wait_for(anext(heard), 60)
    assert (ended.slot, ended.state, ended.exit_code, ended.asked) == (0, "ended", -signal.SIGKILL, False)
    await client.restart(0, policy("failing"))
    assert (await asyncio.wait_for(anext(heard), 60)).exit_code == 1
    # A server that leaves by itself has failed too, whatever its exit code says.
    await client.restart(0, policy("leaving"))
    left = await asyncio.wait_for(anext(heard), 60)
    assert (left.exit_code, left.asked) == (0, False)
    await heard.aclose()  # type: ignore[attr-defined]


async def test_without_a_launcher_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="not running"):
        await LauncherClient(tmp_path).status()


async def test_nothing_outlives_a_killed_launcher(tmp_path: Path, policy: Callable[[str], Path]) -> None:
    with launcher(tmp_path) as process:
        client = LauncherClient(tmp_path)
        for slot in (0, 1):
            await up(await client.restart(slot, policy("plain")))
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 4
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []
