"""Who gets a seat when the engines are full."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import EngineUnavailable
from feedback.store.traffic import Shares
from serve.chat.completions import conversation_number
from serve.engine import admission
from serve.engine.admission import Admission
from serve.engine.pool import Pool
from serve.engine.slot import Seat, Slot, SlotState
from serve.errors import Overloaded


class Room:
    """A slot with so many seats."""

    def __init__(self, seats: int) -> None:
        self.slot = Slot(0, Path("nowhere"))
        self.seats = seats

    def place(self) -> Seat | None:
        return Seat(self.slot) if self.slot.in_flight < self.seats else None


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_keys_take_turns_however_many_chats_one_of_them_sends() -> None:
    room, queue, served = Room(1), Admission(100), list[str]()
    taken = await queue.seat("first", room.place)

    async def wait(key: str) -> None:
        seat = await queue.seat(key, room.place)
        served.append(key)
        seat.release()
        queue.serve_waiting()

    waiting = [asyncio.create_task(wait("greedy")) for _ in range(5)]
    await settled()
    waiting += [asyncio.create_task(wait("modest")) for _ in range(2)]
    await settled()
    assert queue.queued == 7
    taken.release()
    queue.serve_waiting()
    await asyncio.gather(*waiting)
    assert served == ["greedy", "modest", "greedy", "modest", "greedy", "greedy", "greedy"]
    assert queue.queued == 0 and room.slot.in_flight == 0


async def test_for_who_has_to_wait_nobody_is_looked_for_a_seat_again() -> None:
    """Nothing has changed for those who wait by his coming."""
    room, queue, looks = Room(0), Admission(100), 0

    def place() -> Seat | None:
        nonlocal looks
        looks += 1
        return room.place()

    waiting = [asyncio.create_task(queue.seat(key, place)) for key in "abc"]
    await settled()
    assert looks == len(waiting)
    room.seats = 3
    queue.serve_waiting()
    assert [(await task).slot for task in waiting] == [room.slot] * 3


async def test_a_full_queue_says_when_to_come_back() -> None:
    room, queue = Room(0), Admission(2)
    waiting = [asyncio.create_task(queue.seat(key, room.place)) for key in "ab"]
    await settled()
    for key in "ac":
        with pytest.raises(Overloaded) as refused:
            await queue.seat(key, room.place)
        assert refused.value.retry_after_s > 0 and refused.value.status == 429
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert queue.queued == 0


async def test_a_key_that_fills_the_queue_does_not_keep_the_others_out() -> None:
    room, queue = Room(0), Admission(4)
    waiting = {key: [asyncio.create_task(queue.seat(key, room.place))] for key in ("greedy", "modest")}
    for key in ("greedy", "greedy", "greedy", "modest", "third"):
        waiting.setdefault(key, []).append(asyncio.create_task(queue.seat(key, room.place)))
        await settled()
    # Its newest ones went; with two of each of two there is nobody who has more than a newcomer would.
    failed = [task.exception() if task.done() else None for task in waiting["greedy"]]
    assert [isinstance(error, Overloaded) for error in failed] == [False, True, True, True]
    assert not any(task.done() for key in ("modest", "third") for task in waiting[key]) and queue.queued == 4
    with pytest.raises(Overloaded):
        await queue.seat("greedy", room.place)
    room.seats = 4
    queue.serve_waiting()
    for task in (waiting["greedy"][0], *waiting["modest"], *waiting["third"]):
        assert (await task).slot is room.slot
    assert queue.queued == 0


async def test_who_gives_up_leaves_no_seat_taken() -> None:
    room, queue = Room(1), Admission(10)
    taken = await queue.seat("a", room.place)
    impatient = asyncio.create_task(queue.seat("b", room.place))
    await settled()
    taken.release()
    queue.serve_waiting()
    # Seated by now, but it does not know yet.
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert room.slot.in_flight == 0 and queue.queued == 0


async def test_who_is_about_to_give_up_takes_no_seat() -> None:
    room, queue = Room(1), Admission(10)
    taken = await queue.seat("a", room.place)
    impatient, patient = (asyncio.create_task(queue.seat(key, room.place)) for key in "bc")
    await settled()
    # A seat becomes free before it has had its turn to leave.
    impatient.cancel()
    taken.release()
    queue.serve_waiting()
    assert (await patient).slot is room.slot and room.slot.in_flight == 1
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert room.slot.in_flight == 1 and queue.queued == 0


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE_S", 0.02)
    with pytest.raises(EngineUnavailable):
        await Admission(10).seat("a", Room(0).place)
    # Where weights are being changed that comes to an end by itself.
    room, changing = Room(0), True
    waiting = asyncio.create_task(Admission(10, lambda: changing).seat("a", room.place))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    changing = False
    with pytest.raises(EngineUnavailable):
        await waiting


async def test_patience_begins_anew_when_a_change_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE_S", 0.3)
    clock, changing_at = asyncio.get_running_loop().time, list[float]()

    def is_changing() -> bool:
        """For the first looks."""
        if len(changing_at) < admission.LOOKS // 2:
            changing_at.append(clock())
            return True
        return False

    with pytest.raises(EngineUnavailable):
        await Admission(10, is_changing).seat("a", Room(0).place)
    assert clock() - changing_at[-1] > admission.PATIENCE_S


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


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Two slots that hold v1, which serves, and v0."""
    pool = Pool(tmp_path, 2, seats_per_slot=2, max_queued=4)
    pool.serving = 1
    for slot, version in zip(pool.slots, (1, 0), strict=True):
        slot.state, slot.version, slot.wanted = "ready", version, version
    return pool


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
