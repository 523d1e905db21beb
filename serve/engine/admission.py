"""Who is served next when every engine is full: a bounded queue, fair between keys."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from feedback.errors import EngineUnavailable, TandemError
from serve.engine.slot import Seat
from serve.errors import Overloaded

RETRY_AFTER_S = 2
# An engine that is started again is back within this time, or something is wrong with it.
PATIENCE_S = 30.0
LOOKS = 30


@dataclass(eq=False)
class Waiting:
    """A chat that waits: `place` finds it a seat, or None while there is none. Then there is none for others with the
    same `wants` either.
    """

    place: Callable[[], Seat | None]
    wants: Hashable
    seat: "asyncio.Future[Seat]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """One queue for each key; the keys take turns, so one that sends a thousand chats does not hold up the others. Nor
    does a chat whose engine is full, or away, hold up those of its key that want another one.
    While `is_changing`, nobody's wait is in vain: replies are ending, and then weights change, each in bounded time.
    """

    def __init__(self, max_queued: int, is_changing: Callable[[], bool] = lambda: False) -> None:
        self.max_queued = max_queued
        self._is_changing = is_changing
        self._queues: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self.queued = 0

    async def seat(self, key_id: str, place: Callable[[], Seat | None], wants: Hashable = None) -> Seat:
        """A seat, at once where one is free: whoever waits could not take it. Raises Overloaded when too many wait,
        EngineUnavailable when the wait was in vain, and what `place` raises.
        """
        seat = place()
        if seat is not None:
            return seat
        if self.queued >= self.max_queued:
            self._make_room(key_id)
        waiting = Waiting(place, wants)
        self._queues.setdefault(key_id, deque()).append(waiting)
        self.queued += 1
        clock = asyncio.get_running_loop().time
        changing_at = clock()
        try:
            while not (await asyncio.wait([waiting.seat], timeout=PATIENCE_S / LOOKS))[0]:
                if self._is_changing():
                    changing_at = clock()
                elif clock() - changing_at > PATIENCE_S:
                    raise EngineUnavailable("no engine became free in time; try again shortly")
            return waiting.seat.result()
        except BaseException:
            self._leave(key_id, waiting)
            raise

    def serve_waiting(self) -> None:
        """Seat whoever can be seated now: one for each key in turn, until a round seats nobody."""
        seated = True
        while seated and self._queues:
            seated = False
            for key_id in list(self._queues):
                seated = self._seat_first_of(key_id) or seated

    def _make_room(self, key_id: str) -> None:
        """The newest chat of the key with the most waiting ones gives up its place, so that one key cannot keep the
        others out. Raises Overloaded where this key would then have as many itself.
        """
        refused = Overloaded("too many chats are waiting; try again shortly", retry_after_s=RETRY_AFTER_S)
        longest = max(self._queues, key=lambda other: len(self._queues[other]), default=key_id)
        if len(self._queues.get(longest, ())) <= len(self._queues.get(key_id, ())) + 1:
            raise refused
        last = self._queues[longest][-1]
        last.seat.set_exception(refused)
        self._drop(longest, last)

    def _seat_first_of(self, key_id: str) -> bool:
        """The first that can be seated. False when there is none."""
        in_vain = set[Hashable]()
        for waiting in self._queues[key_id]:
            if waiting.wants not in in_vain:
                if self._seat_if_there_is_room(key_id, waiting):
                    return True
                in_vain.add(waiting.wants)
        return False

    def _seat_if_there_is_room(self, key_id: str, waiting: Waiting) -> bool:
        try:
            seat = waiting.place()
        except TandemError as error:  # for the one who waits, not for the one who happened to leave a seat
            waiting.seat.set_exception(error)
        else:
            if seat is None:
                return False
            waiting.seat.set_result(seat)
        self._drop(key_id, waiting)
        # To the end of the line of keys.
        if key_id in self._queues:
            self._queues.move_to_end(key_id)
        return True

    def _drop(self, key_id: str, waiting: Waiting) -> None:
        queue = self._queues[key_id]
        queue.remove(waiting)
        self.queued -= 1
        if not queue:
            del self._queues[key_id]

    def _leave(self, key_id: str, waiting: Waiting) -> None:
        if not waiting.seat.done():
            self._drop(key_id, waiting)
        elif waiting.seat.exception() is None:
            # Seated in the very moment of giving up: the seat goes to the next.
            waiting.seat.result().release()
            self.serve_waiting()
