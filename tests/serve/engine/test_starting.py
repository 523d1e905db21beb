"""Which engines are asked before they are ended, and which are kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import Conflict, PolicyInvalid
from feedback.settings import EngineSettings
from serve.engine.launcher_client import LauncherClient
from serve.engine.launcher_protocol import COMMAND_SOCKET, SlotStatus
from serve.engine.life import Life
from serve.engine.policy_folders import PolicyFolder
from serve.engine.slot import Slot
from serve.engine.starting import Starter
from serve.record import Record

PID = 7
HOLDS_V1 = b'HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{"weight_version":"v1"}'


class Folders:
    """v1 is one whose proof cannot be read."""

    async def of(self, version: int) -> PolicyFolder:
        return PolicyFolder(version, Path(f"v{version}"), "digest")

    async def verify(self, policy: PolicyFolder) -> None:
        """It is what was published."""

    async def probes(self, policy: PolicyFolder) -> None:
        raise PolicyInvalid(f"{policy.folder.name}: probe.json cannot be read")


class Asked:
    """A slot with an engine that holds v1, what was asked of whom, and who starts it. The launcher restarts nothing."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.asked: list[str] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.slot = Slot(0, folder / "engine-0.sock")
        folders: Any = Folders()
        adapters: Any = None
        self.lives = Life(folder, "api_own"), Life(folder, "api_other")
        launcher, settings = LauncherClient(folder), EngineSettings(slots=1)
        self.starter = Starter(launcher, folders, adapters, record, settings, "engines", self.lives[0])

    async def engine(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append("the engine")
        self.writers.append(writer)
        writer.write(HOLDS_V1)

    async def launcher(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = json.loads(await reader.readline())["do"]
        self.asked.append(wanted)
        answer: dict[str, Any] = {
            "ok": True,
            "slots": [SlotStatus(0, str(self.slot.client.socket), "running", PID).to_line()],
        }
        if wanted == "restart":
            answer = {"ok": False, "code": Conflict.code, "error": "this is as far as the test goes"}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


@pytest.fixture
async def asked(record: Record, tmp_path: Path) -> AsyncIterator[Asked]:
    asked = Asked(tmp_path, record)
    async with (
        await asyncio.start_unix_server(asked.engine, tmp_path / "engine-0.sock"),
        await asyncio.start_unix_server(asked.launcher, tmp_path / COMMAND_SOCKET),
    ):
        yield asked
        for writer in asked.writers:
            writer.close()
    for life in asked.lives:
        life.end()


@pytest.mark.parametrize(
    "adopt, in_turn",
    [
        # What hangs answers nobody: one that was given up is not asked once more.
        (False, ["status", "restart"]),
        # What cannot be proved is not kept, nor does it keep a good one away.
        (True, ["status", "the engine", "restart"]),
    ],
)
async def test_who_is_asked_before_an_engine_is_started_anew(asked: Asked, adopt: bool, in_turn: list[str]) -> None:
    asked.slot.server_pid = PID
    with pytest.raises(Conflict, match="as far as the test goes"):
        await asked.starter.start(asked.slot, 0, adopt=adopt)
    assert asked.asked == in_turn


async def test_who_stood_still_in_mid_change_does_not_end_the_engine_that_another_process_has_started(
    asked: Asked,
) -> None:
    asked.slot.server_pid = PID - 1
    with pytest.raises(Conflict, match="another process has started engine 0"):
        await asked.starter.start_anew(asked.slot, 0)
    assert "restart" not in asked.asked
