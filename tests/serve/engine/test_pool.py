"""Where a chat finds a place, and whom it keeps from one."""

import asyncio
from pathlib import Path

import pytest

from serve.engine.pool import Pool


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """One engine that is ready."""
    pool = Pool(tmp_path, 1, seats_per_slot=4, spare_seats=2, max_queued=10)
    (slot,) = pool.slots
    slot.state, slot.version, pool.serving = "ready", 3, 3
    return pool


async def test_who_fills_an_engine_has_nobody_else_wait_for_the_end_of_a_reply(pool: Pool) -> None:
    many = [asyncio.create_task(pool.seat(None, "many")) for _ in range(6)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in many) == 4
    # Both replies of a pair.
    pair = [await asyncio.wait_for(pool.seat(None, "few"), 30) for _ in range(2)]
    another = asyncio.create_task(pool.seat(None, "another"))
    await asyncio.sleep(0)
    assert pool.slots[0].in_flight == 6 and not another.done()
    pool.release(pair[0])
    assert (await asyncio.wait_for(another, 30)).key_id == "another"
    # The spare places are none for who has filled the others.
    pool.release(pair[1])
    await asyncio.sleep(0)
    assert sum(task.done() for task in many) == 4
    for seat in [await task for task in many[:4]]:
        pool.release(seat)
    for task in [*many[4:], another]:
        pool.release(await task)
    assert pool.slots[0].in_flight == 0 and not pool.slots[0].of_key
