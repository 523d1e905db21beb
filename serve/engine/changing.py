"""One change at a time of what the engines hold: among the API processes of a record by the lease, within this process
by a lock. What is asked for waits until what nobody asked for here has ended, what has failed been put back; it is
refused only while something else that was asked for is under way.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from feedback.errors import Conflict, EngineUnavailable
from serve.engine.fence import Fence
from serve.record import Record


class Changing:
    """Held for as long as a change takes. Nobody who was asked waits longer than `patience_s` for the engines."""

    def __init__(self, record: Record, process_id: str, patience_s: float) -> None:
        self._fence = Fence(record, process_id)
        self._passing_fence = Fence(record, process_id, in_passing=True)
        self._lock = asyncio.Lock()
        self._patience_s = patience_s
        # Who makes a change that was asked for, until it is made or put back.
        self.asking: asyncio.Task[Any] | None = None

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[int]:
        """For a change that somebody asked for; gives the lease's epoch. Raises Conflict while another one that was
        asked for, here or through another process, is under way, EngineUnavailable when the engines are not free in
        time.
        """
        if self.asking is not None:
            raise Conflict("another promotion is under way; wait until it has ended")
        self.asking = asyncio.current_task()
        try:
            async with contextlib.AsyncExitStack() as holding:
                try:
                    async with asyncio.timeout(self._patience_s):
                        # The lease first: who takes part in another's change lets go of the engines when that one has
                        # lost it.
                        epoch = await holding.enter_async_context(self._fence.held())
                        await holding.enter_async_context(self._lock)
                except TimeoutError:
                    raise EngineUnavailable(
                        "the engines are being brought back to what they held, or weights pruned; try again shortly"
                    ) from None
                yield epoch
        finally:
            self.asking = None

    @contextlib.asynccontextmanager
    async def in_passing(self) -> AsyncIterator[None]:
        """For a change that nobody asked for here. Raises Conflict while another process changes something."""
        async with self._lock, self._passing_fence.held():
            yield

    @contextlib.asynccontextmanager
    async def taking_part(self) -> AsyncIterator[None]:
        """For a change that another process leads, under its own lease."""
        async with self._lock:
            yield
