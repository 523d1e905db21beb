"""Talks to the launcher by `serve.engine.launcher_protocol`: engines are started anew and watched."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from feedback.errors import Conflict, EngineUnavailable, InvalidRequest, TandemError
from serve.engine.launcher_protocol import COMMAND_SOCKET, LONGEST_LINE_BYTES, SlotStatus

REPLY_TIMEOUT_S = 30.0
REFUSALS: dict[str, type[TandemError]] = {kind.code: kind for kind in (Conflict, InvalidRequest)}


class LauncherClient:
    """One request, one connection: nothing to keep alive, and a launcher that was restarted is found again.

    Every method raises EngineUnavailable when the launcher is not there or does not answer in time, and the refusal's
    own error (Conflict, InvalidRequest) when it says no.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / COMMAND_SOCKET

    async def restart(self, slot: int, policy: Path) -> SlotStatus:
        """Kill a slot's server if there is one, then fork one for the folder `policy`. It is not ready yet: ask it."""
        return (await self._ask({"do": "restart", "slot": slot, "policy": str(policy)}))[0]

    async def status(self) -> list[SlotStatus]:
        return await self._ask({"do": "status"})

    async def watch(self) -> AsyncIterator[SlotStatus]:
        """Yield every slot as it is now, then each one whose server ends; raises when the launcher goes away."""
        reader, writer = await self._connect()
        try:
            writer.write(b'{"do": "watch"}\n')
            while line := await reader.readline():
                message = json.loads(line)
                for status in message.get("slots") or [message["slot"]]:
                    yield SlotStatus.from_line(status)
        except OSError as error:
            raise EngineUnavailable("the engine launcher went away") from error
        finally:
            writer.close()
        raise EngineUnavailable("the engine launcher went away")

    async def _ask(self, request: dict[str, Any]) -> list[SlotStatus]:
        reader, writer = await self._connect()
        try:
            writer.write(json.dumps(request).encode() + b"\n")
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                line = await reader.readline()
        except (OSError, TimeoutError) as error:
            raise EngineUnavailable("the engine launcher does not answer") from error
        finally:
            writer.close()
        if not line:
            raise EngineUnavailable("the engine launcher went away")
        reply = json.loads(line)
        if not reply["ok"]:
            raise REFUSALS.get(reply["code"], TandemError)(reply["error"])
        return [SlotStatus.from_line(status) for status in reply["slots"]]

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(str(self.path), limit=LONGEST_LINE_BYTES)
        except OSError as error:
            raise EngineUnavailable("the engine launcher is not running") from error
