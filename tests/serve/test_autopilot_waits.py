"""Promotion by rule tries a version again where what went wrong says nothing against it."""

import asyncio
from typing import Any

import pytest

from feedback.automatic import Do, Step
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
from feedback.store.traffic import Shares
from serve.autopilot import Autopilot
from serve.record import Record
from tests.waiting import until


class Fails:
    """In the place of what drives engines."""

    def __init__(self, error: TandemError) -> None:
        self.error = error
        self.shared: list[Any] = []

    async def promote(self, *_: Any) -> None:
        raise self.error

    async def put(self, shares: Shares, **said: Any) -> None:
        self.shared.append((shares, said))


async def take(record: Record, error: TandemError, do: Do = "promote") -> tuple[list[str], list[Any]]:
    """What is in the audit after a step that ended so, and what shares were set."""
    parts: Any = Fails(error)
    autopilot = Autopilot(AutomaticSettings(enabled=True), GateSettings(), record, parts, parts)
    await autopilot._take(Step(do, 1, "it won"))
    entries, _ = await record.read(audit.list_page, limit=6, after=None, order="desc")
    return [f"{entry.action} {entry.subject}: {entry.reason}" for entry in entries], parts.shared


@pytest.mark.parametrize("kind", [Conflict, EngineUnavailable, LeaseLost, RecordUnavailable, StorageUnavailable])
async def test_it_waits(record: Record, kind: type[TandemError]) -> None:
    with pytest.raises(kind, match="not now"):
        await take(record, kind("not now"))
    assert await record.read(audit.newest) is None


async def test_what_cannot_be_served_is_given_up(record: Record) -> None:
    told, shared = await take(record, PolicyInvalid("it holds no weights"))
    assert told == ["automatic.give_up v1: it holds no weights"]
    assert shared == [(Shares(), {"actor": "rule", "reason": "it holds no weights"})]


async def test_a_challenger_that_serves_is_not_given_up(record: Record) -> None:
    told, shared = await take(record, Conflict("not asked"), "clear")
    assert (told, shared) == ([], [(Shares(), {"actor": "rule", "reason": "it won"})])


async def test_it_looks_again_whatever_has_gone_wrong(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    settings = AutomaticSettings(enabled=True, check_interval_s=0.01)
    autopilot, looks = Autopilot(settings, GateSettings(), record, nothing, nothing), list[int]()

    async def look() -> None:
        looks.append(1)
        raise OSError("no space left on device")

    monkeypatch.setattr(autopilot, "look", look)
    running = asyncio.create_task(autopilot.run())
    await until(lambda: len(looks) > 1 or running.done())
    assert not running.done()
    running.cancel()
