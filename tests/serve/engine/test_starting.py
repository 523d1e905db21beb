"""Which engines are asked before they are ended, and which are kept."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import Conflict, PolicyInvalid
from feedback.settings import EngineSettings
from serve.engine.launcher_client import LauncherClient
from serve.engine.life import Life
from serve.engine.policy_folders import PolicyFolder
from serve.engine.slot import Slot
from serve.engine.slots import COMMAND_SOCKET, SlotStatus
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


@pytest.mark.parametrize(
    "adopt, asked_in_turn",
    [
        # What hangs answers nobody: one that was given up is not asked once more.
        (False, ["status", "restart"]),
        # What cannot be proved is not kept, nor does it keep a good one away.
        (True, ["status", "the engine", "restart"]),
    ],
)
async def test_who_is_asked_before_an_engine_is_started_anew(
    record: Record, tmp_path: Path, adopt: bool, asked_in_turn: list[str]
) -> None:
    asked: list[str] = []
    status = SlotStatus(0, str(tmp_path / "engine-0.sock"), "running", PID).to_line()

    async def engine(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append("the engine")
        writer.write(HOLDS_V1)

    async def launcher(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = json.loads(await reader.readline())["do"]
        asked.append(wanted)
        answer: dict[str, Any] = {"ok": True, "slots": [status]}
        if wanted == "restart":
            answer = {"ok": False, "code": Conflict.code, "error": "this is as far as the test goes"}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    folders: Any = Folders()
    adapters: Any = None
    slot = Slot(0, tmp_path / "engine-0.sock")
    slot.server_pid = PID
    life, other = Life(tmp_path, "api_own"), Life(tmp_path, "api_other")
    starter = Starter(LauncherClient(tmp_path), folders, adapters, record, EngineSettings(slots=1), "engines", life)
    async with (
        await asyncio.start_unix_server(engine, tmp_path / "engine-0.sock"),
        await asyncio.start_unix_server(launcher, tmp_path / COMMAND_SOCKET),
    ):
        with pytest.raises(Conflict, match="as far as the test goes"):
            await starter.start(slot, 0, adopt=adopt)
    assert asked == asked_in_turn
    life.end()
    other.end()
