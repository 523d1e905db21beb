"""An engine that was given up is ended without being asked once more: what hangs answers nobody."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import Conflict
from feedback.settings import EngineSettings
from feedback.store import Store
from serve.engine.launcher_client import LauncherClient
from serve.engine.life import Life
from serve.engine.policy_folders import PolicyFolder
from serve.engine.slot import Slot
from serve.engine.slots import COMMAND_SOCKET, SlotStatus
from serve.engine.starting import Starter
from serve.record import Record

PID = 7


class Folders:
    async def of(self, version: int) -> PolicyFolder:
        return PolicyFolder(version, Path(f"v{version}"), "digest")

    async def verify(self, policy: PolicyFolder) -> None:
        """It is what was published."""


async def test_what_hangs_is_not_asked_before_it_is_ended(tmp_path: Path) -> None:
    asked: list[str] = []
    status = SlotStatus(0, str(tmp_path / "engine-0.sock"), "running", PID).to_line()

    async def engine(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.append("the engine")
        await reader.read()

    async def launcher(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = json.loads(await reader.readline())["do"]
        asked.append(wanted)
        answer: dict[str, Any] = {"ok": True, "slots": [status]}
        if wanted == "restart":
            answer = {"ok": False, "code": Conflict.code, "error": "this is as far as the test goes"}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    store.migrate()
    record, settings = Record(store), EngineSettings(slots=1)
    folders: Any = Folders()
    adapters: Any = None
    slot = Slot(0, tmp_path / "engine-0.sock")
    slot.server_pid = PID
    life = Life(tmp_path, "api_own")
    starter = Starter(LauncherClient(tmp_path), folders, adapters, record, settings, "engines", life)
    async with (
        await asyncio.start_unix_server(engine, tmp_path / "engine-0.sock"),
        await asyncio.start_unix_server(launcher, tmp_path / COMMAND_SOCKET),
    ):
        with pytest.raises(Conflict):
            await starter.start(slot, 0)
    assert asked == ["status", "restart"]
    life.end()
    record.close()
