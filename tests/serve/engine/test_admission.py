"""Who gets a seat when the engines are full."""

import asyncio
from pathlib import Path

import pytest

from feedback.errors import EngineUnavailable
from serve.engine import admission
from serve.engine.admission import Admission
from serve.engine.slot import Seat, Slot
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
