"""One engine's slot: which version it holds, whether it takes chats, and how many it is writing now."""

import asyncio
import math
import time
from collections import Counter
from pathlib import Path
from typing import Literal

from feedback.schema import version_name
from serve.engine.client import EngineClient
from serve.engine.handover import Handover
from serve.engine.launcher_protocol import SERVED_NAME

# down: no engine, or one that is being started. ready: takes chats. doubted: takes none until it was looked at.
# held: takes none either, since its weights are being changed.
SlotState = Literal["down", "ready", "doubted", "held"]


class Slot:
    """`version` is what the engine holds; `wanted` is what it is to be started with, should it have to be started.
    `adapters` are the versions that are adapters on it and were proved, `wanted_adapters` those to be loaded after a
    start. `server_pid` is the process that this one has last found or put there.
    """

    def __init__(self, index: int, socket: Path, *, takes_adapters: bool = False) -> None:
        self.index = index
        self.takes_adapters = takes_adapters
        self.client = EngineClient(socket)
        self.state: SlotState = "down"
        self.version: int | None = None
        self.wanted: int | None = None
        self.adapters: set[int] = set()
        self.wanted_adapters: set[int] = set()
        self.in_flight = 0
        # How many of these chats are of which key.
        self.of_key = Counter[str]()
        self.progress_at = time.monotonic()
        self._wrote_at = -math.inf
        self.server_pid: int | None = None
        # Of the chats whose text does not come by here.
        self.handovers: set[Handover] = set()
        self.suspected = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def being_changed(self) -> bool:
        """Somebody else answers for the engine until its weights are what they shall be."""
        return self.state == "held"

    @property
    def versions(self) -> set[int]:
        return self.adapters if self.version is None else self.adapters | {self.version}

    def holds(self, version: int) -> bool:
        return self.state == "ready" and (version == self.version or version in self.adapters)

    def name_of(self, version: int) -> str:
        """What a version is called inside the engine. One that takes adapters serves its base by an adapter, too."""
        return version_name(version) if self.takes_adapters else SERVED_NAME

    def has_written_within(self, interval_s: float) -> bool:
        """True when the engine, of which nobody doubts anything, is writing and something of it has come so lately."""
        if sum([handover.has_grown() for handover in self.handovers]):
            self.wrote()
        return self.state == "ready" and self.in_flight > 0 and time.monotonic() - self._wrote_at < interval_s

    def wrote(self) -> None:
        """Something of a reply has come."""
        self.progress_at = self._wrote_at = time.monotonic()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight. False when that takes longer than `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def enter(self, replies: int, key_id: str) -> None:
        if self.in_flight == 0:
            self.progress_at = time.monotonic()
        self.in_flight += replies
        self.of_key[key_id] += 1
        self._idle.clear()

    def leave(self, replies: int, key_id: str) -> None:
        self.in_flight -= replies
        self.of_key[key_id] -= 1
        if not self.of_key[key_id]:
            # Else every key that ever came would be kept.
            del self.of_key[key_id]
        if self.in_flight == 0:
            self._idle.set()


class Seat:
    """One chat's place on an engine, from before it is asked for until its last token: room for `size` replies, which
    are more than one where the best is chosen.
    """

    def __init__(self, slot: Slot, version: int | None = None, size: int = 1, key_id: str = "") -> None:
        self.slot = slot
        self.size = size
        self.key_id = key_id
        self.version = slot.version if version is None else version
        self.weights = slot.version
        self.version_first: int | None = None
        self.version_last: int | None = None
        self._taken = True
        slot.enter(size, key_id)

    def asked(self) -> None:
        """The engine begins a reply that will come as a whole: the work of the version that the slot holds now."""
        self.slot.progress_at = time.monotonic()
        self._note_version()

    def progress(self) -> None:
        """A token has come: it is the work of the version that the slot holds now."""
        self.slot.wrote()
        self._note_version()

    def _note_version(self) -> None:
        # No other adapter ever goes by an adapter's name.
        self.version_last = self.slot.version if self.version == self.weights else self.version
        if self.version_first is None:
            self.version_first = self.version_last

    def release(self) -> None:
        """Nothing more will come. Again changes nothing."""
        if self._taken:
            self._taken = False
            self.slot.leave(self.size, self.key_id)
