"""Promotion by rule tries a version again where what went wrong says nothing against it."""

import asyncio
from typing import Any

import pytest

from feedback.automatic import Step
from feedback.errors import (
    Conflict,
    EngineUnavailable,
    LeaseLost,
    PolicyInvalid,
    RecordUnavailable,
    StorageUnavailable,
    TandemError,
)
from feedback.operating_settings import AutomaticSettings, GateSettings
from feedback.store import audit
from serve.autopilot import Autopilot
from serve.record import Record


class Fails:
    """In the place of what drives engines."""

    def __init__(self, error: TandemError) -> None:
        self.error = error

    async def promote(self, *_: Any) -> None:
        raise self.error

    async def put(self, *_: Any, **__: Any) -> None:
        """Nobody is compared with anybody."""


async def take(record: Record, error: TandemError) -> list[str]:
    """What is in the audit after a promotion that ended so."""
    parts: Any = Fails(error)
    autopilot = Autopilot(AutomaticSettings(enabled=True), GateSettings(), record, parts, parts)
    try:
        await autopilot._take(Step("promote", 1, "it won"))
    except TandemError as raised:
        assert raised is error
    entries, _ = await record.read(audit.list_page, limit=6, after=None, order="desc")
    return [entry.action for entry in entries]


@pytest.mark.parametrize("kind", [Conflict, EngineUnavailable, LeaseLost, RecordUnavailable, StorageUnavailable])
async def test_it_waits(record: Record, kind: type[TandemError]) -> None:
    assert await take(record, kind("not now")) == []


async def test_what_cannot_be_served_is_given_up(record: Record) -> None:
    assert len(await take(record, PolicyInvalid("it holds no weights"))) == 1


async def test_it_looks_again_whatever_has_gone_wrong(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    settings = AutomaticSettings(enabled=True, check_interval_s=0.01)
    autopilot, looks = Autopilot(settings, GateSettings(), record, nothing, nothing), list[int]()

    async def look() -> None:
        looks.append(1)
        raise OSError("no space left on device")

    monkeypatch.setattr(autopilot, "look", look)
    running = asyncio.create_task(autopilot.run())
    async with asyncio.timeout(30):
        while len(looks) < 2 and not running.done():
            await asyncio.sleep(0.01)
    assert len(looks) > 1
    running.cancel()
