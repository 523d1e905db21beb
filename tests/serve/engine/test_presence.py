"""What serves is given only while the record has said lately that it does."""

import asyncio
import shutil
from pathlib import Path

import pytest
from sqlalchemy import update

import serve.engine.presence
from feedback.schema import ApiProcess
from feedback.store import leases, policies, presence
from serve.engine.fence import Fence
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.record import Record


@pytest.fixture
def record(record: Record) -> Record:
    """One in which v0 serves."""
    record.store.write(policies.register_start, "policies/v0", "digest_0", {})
    return record


def pool_with(tmp_path: Path, version: int) -> Pool:
    """One engine that holds `version`, which serves here."""
    pool = Pool(tmp_path, 1, seats_per_slot=4, max_queued=4)
    (slot,) = pool.slots
    pool.serving = slot.version = slot.wanted = version
    slot.state = "ready"
    return pool


async def test_chats_wait_until_the_record_has_said_that_it_serves(record: Record, tmp_path: Path) -> None:
    pool = pool_with(tmp_path, 0)
    own = Presence(record, pool, "engines", tmp_path)
    waiting = asyncio.create_task(pool.seat(None, "a"))
    await asyncio.sleep(0)
    assert not waiting.done() and not pool.ready and pool.stale.is_set()
    # One that was asked for by its name is what it is, whatever serves.
    assert (await pool.seat(0, "b")).version == 0
    await own.renew()
    assert not pool.is_open, "who has not entered has nothing to renew"
    await own.enter()
    assert (await waiting).version == 0 and pool.ready
    await own.stop()
    assert not pool.is_open and record.store.read(presence.behind, "leader", 1) == []


async def test_who_holds_something_else_than_what_serves_stays_closed(record: Record, tmp_path: Path) -> None:
    pool = pool_with(tmp_path, 1)
    await Presence(record, pool, "engines", tmp_path).enter()
    assert not pool.is_open


async def test_a_lease_that_ran_out_closes(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "TTL_S", 0.05)
    pool = pool_with(tmp_path, 0)
    own = Presence(record, pool, "engines", tmp_path)
    await own.enter()
    await asyncio.sleep(0.06)
    assert not pool.is_open
    monkeypatch.setattr(presence, "TTL_S", 60.0)
    await own.renew()
    assert not pool.is_open, "it was renewed though it had run out"
    await own.enter()
    assert pool.is_open
    record.store.write(lambda session: session.execute(update(ApiProcess).values(expires_at=0.0)))
    await own.renew()
    assert not pool.is_open, "the record left it out, and it goes on"


async def test_who_has_no_engine_left_leaves(record: Record, tmp_path: Path) -> None:
    pool = pool_with(tmp_path, 0)
    own = Presence(record, pool, "engines", tmp_path)
    other = Presence(record, pool_with(tmp_path, 0), "others", tmp_path)
    await own.enter()
    await other.enter()
    await own.renew()
    assert (own.others, other.others) == (1, 1)
    pool.slots[0].state = "down"
    await own.renew()
    await other.renew()
    assert other.others == 0 and not pool.is_open


async def test_who_ends_in_mid_change_is_not_waited_for(record: Record, tmp_path: Path) -> None:
    own, other = (Presence(record, pool_with(tmp_path, 0), "engines", tmp_path) for _ in range(2))
    async with Fence(record, own.id).held(), asyncio.timeout(30):
        await own.stop()
        async with Fence(record, other.id).held() as epoch:
            assert record.store.read(leases.held, leases.ENGINES, epoch)


async def test_it_is_renewed_though_the_dead_cannot_be_looked_for(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.engine.presence, "RENEW_INTERVAL_S", 0.05)
    pool = pool_with(tmp_path, 0)
    own = Presence(record, pool, "engines", tmp_path)
    shutil.rmtree(tmp_path / "api")
    await own.enter()
    seen = {pool.open_until}
    renewing = asyncio.create_task(own.run())
    async with asyncio.timeout(60):
        # Between its second and third renewal it has looked.
        while len(seen) < 4:
            assert not renewing.done()
            await asyncio.sleep(0.01)
            seen.add(pool.open_until)
    renewing.cancel()
