"""Where a chat finds a place, and whom it keeps from one; which versions chats and comparisons go to."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import EngineUnavailable
from feedback.store.traffic import Shares
from serve.chat.completions import conversation_number
from serve.engine.pool import Pool
from serve.engine.slot import SlotState
from serve.errors import Overloaded
from tests.serve.engine.test_admission import settled


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Two slots that hold v1, which serves, and v0."""
    pool = Pool(tmp_path, 2, seats_per_slot=2, max_queued=4)
    pool.serving = 1
    for slot, version in zip(pool.slots, (1, 0), strict=True):
        slot.state, slot.version, slot.wanted = "ready", version, version
    return pool


async def test_an_engine_to_be_avoided_is_taken_only_where_no_other_holds_the_version(pool: Pool) -> None:
    pool.slots[1].version = pool.slots[1].wanted = 1
    assert {(await pool.seat(None, "a", frozenset({0}))).slot.index for _ in range(2)} == {1}
    pool.slots[1].version = pool.slots[1].wanted = 0
    assert (await pool.seat(None, "a", frozenset({0}))).slot.index == 0


async def test_there_is_never_less_than_no_room(pool: Pool) -> None:
    assert pool.room() == (8, 8)
    await pool.seat(None, "a", size=3)
    assert pool.room() == (8, 5)
    await pool.seat(0, "a", size=9)
    assert pool.room() == (8, 0)


def test_what_serves_is_compared_with_the_version_before_it_by_its_share(pool: Pool) -> None:
    assert {pool.versions_for_comparison(None) for _ in range(64)} == {(None, 0), (0, None)}
    pool._older_share = 0.0
    assert {pool.versions_for_comparison(None) for _ in range(64)} == {(None, None)}
    pool._older_share = 0.5
    drawn = [pool.versions_for_comparison(None) for _ in range(400)]
    assert 120 < drawn.count((None, None)) < 280


async def test_a_chat_goes_to_what_serves_when_its_turn_comes(pool: Pool) -> None:
    seats = [await pool.seat(None, "a") for _ in range(2)]
    waiting = asyncio.create_task(pool.seat(None, "a"))
    await settled()
    pool.serving = 0
    pool.admission.serve_waiting()
    assert (await waiting).slot.version == 0
    assert all(seat.slot.version == 1 for seat in seats)


async def test_who_wants_several_replies_is_not_passed_over_for_those_who_want_one(pool: Pool) -> None:
    first, second = [await pool.seat(None, "a") for _ in range(2)]
    several = asyncio.create_task(pool.seat(None, "b", size=4))
    one = asyncio.create_task(pool.seat(None, "a"))
    await settled()
    pool.release(first)
    assert (await several).size == 4
    pool.release(second)
    await settled()
    assert not one.done(), "the engine has more to write than it can by now"
    pool.release(several.result())
    assert (await one).slot.version == 1


@pytest.mark.parametrize("state", ["ready", "doubted"])
async def test_who_waits_for_one_engine_does_not_hold_up_who_wants_another(pool: Pool, state: SlotState) -> None:
    seats = [await pool.seat(0, "a") for _ in range(2)]
    pool.slots[1].state = state
    waiting = [asyncio.create_task(pool.seat(0, "a")) for _ in range(2)]
    await settled()
    assert (await pool.seat(None, "a")).slot is pool.slots[0]
    assert not any(task.done() for task in waiting)
    pool.slots[1].state = "ready"
    pool.release(seats[0])
    assert (await waiting[0]).slot is pool.slots[1] and not waiting[1].done()
    pool.release(seats[1])
    assert (await waiting[1]).slot is pool.slots[1] and pool.admission.queued == 0


async def test_who_takes_what_serves_instead_is_not_held_up_by_who_waits_for_that_version_alone(pool: Pool) -> None:
    seats = [await pool.seat(None, "a") for _ in range(2)]
    pool.slots[1].state, pool.slots[1].wanted = "down", 0
    patient = asyncio.create_task(pool.seat(0, "a"))
    other = asyncio.create_task(pool.seat(0, "a", or_serving=True))
    await settled()
    pool.release(seats[0])
    assert (await other).slot is pool.slots[0] and not patient.done()
    patient.cancel()


async def test_who_waits_for_a_version_that_goes_is_told_at_once(pool: Pool) -> None:
    for _ in range(2):
        await pool.seat(0, "a")
    waiting = asyncio.create_task(pool.seat(0, "a"))
    await settled()
    pool.slots[1].version = pool.slots[1].wanted = 2
    pool.admission.serve_waiting()
    await settled()
    assert waiting.done() and isinstance(waiting.exception(), EngineUnavailable) and pool.admission.queued == 0


async def test_a_queue_full_of_those_who_want_one_engine_refuses_nobody_who_wants_another(pool: Pool) -> None:
    for _ in range(2):
        await pool.seat(0, "a")
    waiting = [asyncio.create_task(pool.seat(0, "a")) for _ in range(pool.admission.max_queued)]
    await settled()
    assert (await pool.seat(None, "b")).slot is pool.slots[0]
    with pytest.raises(Overloaded):
        await pool.seat(0, "a")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_doubted_engine_gets_no_chats_until_it_was_looked_at(pool: Pool) -> None:
    pool.suspect(pool.slots[0])
    waiting = asyncio.create_task(pool.seat(None, "a"))
    await settled()
    assert not waiting.done() and pool.slots[0].suspected.is_set()
    pool.slots[0].state = "ready"
    pool.admission.serve_waiting()
    assert (await waiting).slot is pool.slots[0]


async def test_a_comparisons_other_side_falls_back_to_what_serves(pool: Pool) -> None:
    sides = {pool.versions_for_comparison(None) for _ in range(40)}
    assert sides == {(None, 0), (0, None)}
    pool.slots[1].version = pool.slots[1].wanted = 2
    assert (await pool.seat(0, "a", or_serving=True)).slot.version == 1
    with pytest.raises(EngineUnavailable):
        await pool.seat(0, "a")


def test_a_challenger_gets_its_share_of_conversations_and_keeps_them(pool: Pool) -> None:
    pool.shares = Shares(challenger=0, chat_share=0.3, comparison_share=1.0)
    assert pool.version_for_chat(None, 0.29) == 0 and pool.version_for_chat(None, 0.3) is None
    assert set(pool.versions_for_comparison(None)) == {None, 0}
    pool.shares = Shares(challenger=0, chat_share=0.3, comparison_share=0.0)
    assert set(pool.versions_for_comparison(None)) == {None}
    # Promoted a moment ago: it is not compared with itself.
    pool.shares = Shares(challenger=1, chat_share=0.3, comparison_share=1.0)
    assert set(pool.versions_for_comparison(None)) == {None, 0}


def test_a_version_that_was_never_promoted_is_shown_by_chance_as_the_challenger_only(pool: Pool) -> None:
    pool.candidates = frozenset({0})
    assert {pool.versions_for_comparison(None) for _ in range(40)} == {(None, None)}
    pool.shares = Shares(challenger=0, comparison_share=1.0)
    assert set(pool.versions_for_comparison(None)) == {None, 0}


def test_conversations_spread_evenly_and_stay() -> None:
    def messages(opening: int, *later: str) -> list[dict[str, str]]:
        turns = [{"role": "user", "content": f"question {opening}"}]
        return turns + [{"role": role, "content": role} for role in later]

    numbers = [conversation_number(messages(at), "key") for at in range(1000)]  # type: ignore[arg-type]
    assert 0.25 < sum(number < 0.3 for number in numbers) / 1000 < 0.35
    for at in range(20):
        later: list[Any] = messages(at, "assistant", "user")
        assert conversation_number(later, "key") == numbers[at]
        # Such as one that says what time it is.
        assert conversation_number([{"role": "system", "content": f"{at}"}, *later], "key") == numbers[at]


async def test_who_fills_an_engine_has_nobody_else_wait_for_the_end_of_a_reply(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 1, seats_per_slot=4, spare_seats=2, max_queued=10)
    (slot,) = pool.slots
    slot.state, slot.version, pool.serving = "ready", 3, 3
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
