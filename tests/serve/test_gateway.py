"""What goes on in one API process beside its requests."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import RecordUnavailable
from feedback.settings import load_settings
from feedback.store import Store, leases, policies
from serve.gateway import Gateway
from tests.serve.conftest import Tandem

PATIENCE_S = 60.0


def test_the_record_is_followed_whatever_has_gone_wrong(quiet: Tandem, monkeypatch: pytest.MonkeyPatch) -> None:
    record, rounds = quiet.gateway.record, list[str]()
    read = record.read

    async def read_or_fail(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.__name__ == "serving":
            rounds.append(operation.__name__)
            if len(rounds) == 1:
                raise OSError("no space left on device")
        return await read(operation, *args, **kwargs)

    monkeypatch.setattr(record, "read", read_or_fail)
    deadline = time.monotonic() + PATIENCE_S
    while len(rounds) < 3:
        assert time.monotonic() < deadline, "nobody follows the record any more"
        time.sleep(0.05)


def test_engines_are_started_though_the_record_went_away_meanwhile(
    quiet: Tandem, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, asked = quiet.gateway.record, list[str]()
    read = record.read

    async def read_or_fail(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is policies.rollback_target:
            asked.append(operation.__name__)
            if len(asked) == 1:
                raise RecordUnavailable("the database is not there")
        return await read(operation, *args, **kwargs)

    monkeypatch.setattr(record, "read", read_or_fail)
    quiet.store.write(policies.register_start, "policies/v0", "sha256:0", {})
    deadline = time.monotonic() + PATIENCE_S
    while any(slot.wanted != 0 for slot in quiet.gateway.pool.slots):
        assert time.monotonic() < deadline, "nobody starts the engines"
        time.sleep(0.05)
    assert len(asked) == 2


async def test_the_end_waits_until_what_was_to_be_promoted_is_put_back(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    gateway, put_back = Gateway(settings), list[str]()
    await gateway.start()

    async def promote() -> None:
        async with gateway.promoter._changing.asked():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.3)
                put_back.append("put back")

    promoting = asyncio.create_task(promote())
    async with asyncio.timeout(PATIENCE_S):
        while not gateway.promoter.busy:
            await asyncio.sleep(0.01)
    # As the server does when the drain has taken too long.
    promoting.cancel()
    await gateway.stop()
    assert put_back == ["put back"] and promoting.cancelled()
    store = Store(settings.record_url)
    assert not store.read(leases.held, leases.ENGINES)
    store.close()
