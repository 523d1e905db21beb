"""The engines as one: which version serves, which slots hold which version, and a seat for each chat.

Knows nothing of weights on disk, of the record or of HTTP to clients.
"""

import asyncio
import math
import random
import time
from pathlib import Path

from feedback.errors import EngineUnavailable, NotFound
from feedback.schema import version_name
from feedback.store.traffic import Shares
from serve.engine.admission import Admission
from serve.engine.launcher_protocol import engine_socket
from serve.engine.slot import Seat, Slot


class UnknownVersion(NotFound):
    """A version that no engine holds."""

    code = "model_not_found"


class Pool:
    """`serving` is the version behind the plain model name; None until the first engine is asked for."""

    def __init__(
        self,
        run_dir: Path,
        slots: int,
        *,
        seats_per_slot: int,
        spare_seats: int = 0,
        max_queued: int,
        take_adapters: bool = False,
        older_share: float = 1.0,
    ) -> None:
        self.slots = [
            Slot(index, engine_socket(run_dir, index), takes_adapters=take_adapters) for index in range(slots)
        ]
        self.serving: int | None = None
        self.shares = Shares()
        # What serves is given until then (monotonic seconds); `serve.engine.presence` moves it on.
        self.open_until = math.inf
        # Being loaded to be promoted, and not decided on yet: nobody is shown it by chance.
        self.prepared: int | None = None
        # Never promoted: only as the challenger somebody is shown one by chance.
        self.candidates: frozenset[int] = frozenset()
        # What serves may have changed through another process: chats for what is gone wait until the record was read.
        self.stale = asyncio.Event()
        # The record is being read, and the engines are looked at for what it says.
        self.is_following = False
        self.admission = Admission(max_queued, lambda: any(slot.being_changed for slot in self.slots))
        self._seats_per_slot, self._spare_seats = seats_per_slot, spare_seats
        self._older_share = older_share

    @property
    def ready(self) -> bool:
        """True while at least one engine holds the serving version and takes chats, and it is sure that it serves."""
        return self.is_open and self.serving is not None and bool(self.holders(self.serving))

    @property
    def is_open(self) -> bool:
        """False while another version may serve by now, as far as this process knows."""
        return time.monotonic() < self.open_until

    def loaded(self) -> list[int]:
        """The versions that chats can ask for now, oldest first."""
        return sorted({version for slot in self.slots if slot.state == "ready" for version in slot.versions})

    def holders(self, version: int) -> list[Slot]:
        return [slot for slot in self.slots if slot.holds(version)]

    def version_for_chat(self, asked: int | None, conversation: float) -> int | None:
        """The version that a chat goes to; None for whatever serves when its turn has come.

        `conversation` is a number in [0, 1) that stays the same for one conversation, so that all its turns go to one
        version. Raises UnknownVersion, EngineUnavailable.
        """
        if asked is not None:
            return self._known(asked)
        self._check_serving()
        challenger = self.shares.challenger
        if challenger is not None and conversation < self.shares.chat_share and self.holders(challenger):
            return challenger
        return None

    def versions_for_comparison(self, asked: int | None) -> tuple[int | None, int | None]:
        """The versions of choice 0 and choice 1, sides drawn at random; None for whatever serves.

        Raises UnknownVersion, EngineUnavailable.
        """
        if asked is not None:
            version = self._known(asked)
            return version, version
        self._check_serving()
        sides = [None, self._partner()]
        random.SystemRandom().shuffle(sides)
        return sides[0], sides[1]

    async def seat(
        self,
        version: int | None,
        key_id: str,
        avoid: frozenset[int] = frozenset(),
        *,
        or_serving: bool = False,
        size: int = 1,
    ) -> Seat:
        """A place for `size` replies on an engine that holds `version` (None: what serves), on none of the slots in
        `avoid` if another one does. With `or_serving`, what serves stands in for a version that is no longer there.

        Raises EngineUnavailable when no engine holds it and none is about to, Overloaded when too many chats wait.
        """
        return await self.admission.seat(
            key_id, lambda: self._place(version, key_id, avoid, or_serving, size), (version, avoid, or_serving)
        )

    def room(self) -> tuple[int, int]:
        """How many chats there is room for in all, written or waiting, and how many more now."""
        limit = self._seats_per_slot * len(self.slots) + self.admission.max_queued
        taken = sum(slot.in_flight for slot in self.slots) + self.admission.queued
        return limit, max(0, limit - taken)

    def release(self, seat: Seat) -> None:
        seat.release()
        self.admission.serve_waiting()

    def suspect(self, slot: Slot) -> None:
        """An engine did not answer, or broke off: it gets no chats until whoever keeps it alive has looked at it."""
        if slot.state == "ready":
            slot.state = "doubted"
        slot.suspected.set()

    def _place(
        self, version: int | None, key_id: str, avoid: frozenset[int], or_serving: bool, size: int
    ) -> Seat | None:
        wanted = self.serving if version is None else version
        if wanted is None:
            raise EngineUnavailable("no engine is ready yet; try again shortly")
        holders = self.holders(wanted)
        if not holders and version is not None and or_serving:
            return self._place(None, key_id, avoid, False, size)
        if not holders and not self._expects(wanted):
            raise EngineUnavailable(f"no engine holds {version_name(wanted)} now; try again shortly")
        if version is None and not self.is_open:
            self.stale.set()
            return None
        holders = [slot for slot in holders if slot.index not in avoid] or holders
        # Several replies begin where there is room for one, and the engine has the rest of them wait: so much room at
        # once there never is while others want it.
        free = [slot for slot in holders if slot.in_flight < self._seats_for(key_id, slot)]
        return Seat(min(free, key=lambda slot: slot.in_flight), wanted, size, key_id) if free else None

    def _seats_for(self, key_id: str, slot: Slot) -> int:
        """The spare ones are for keys that have at most one other there, as the first reply of a pair is."""
        return self._seats_per_slot + (self._spare_seats if slot.of_key[key_id] <= 1 else 0)

    def _expects(self, version: int) -> bool:
        """True while a slot is being brought back that is to hold `version`, or that changes what serves in place, or
        while it is being found out what serves and where."""
        return (
            self.stale.is_set()
            or self.is_following
            or self.prepared is not None
            or any(
                slot.state != "ready" and version in {slot.wanted, self.serving, *slot.versions, *slot.wanted_adapters}
                for slot in self.slots
            )
        )

    def _partner(self) -> int | None:
        """What the serving version is compared with: the challenger by its share, else another that is loaded by its;
        None for itself."""
        challenger = self.shares.challenger
        challenges = challenger is not None and challenger != self.serving and bool(self.holders(challenger))
        if challenges and random.random() < self.shares.comparison_share:
            return challenger
        hidden = {self.serving, challenger, self.prepared} | self.candidates
        others = [version for version in self.loaded() if version not in hidden]
        return others[-1] if others and random.random() < self._older_share else None

    def _known(self, version: int) -> int:
        if version not in self.loaded():
            raise UnknownVersion(
                f"no engine holds {version_name(version)}; GET /v1/models lists what can be asked for", param="model"
            )
        return version

    def _check_serving(self) -> None:
        if self.serving is None:
            raise EngineUnavailable("no engine is ready yet; try again shortly")
