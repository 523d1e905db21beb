"""One change at a time of what the engines of this process hold. What is done in passing, nobody having asked for it
here, lets what is asked for wait until it has ended, instead of having it refused.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from feedback.errors import Conflict


class Changing:
    """Held for as long as a change takes."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._claims = 0

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    @contextlib.asynccontextmanager
    async def claimed(self, *, wait: bool = False) -> AsyncIterator[None]:
        """For a change that somebody asked for. Raises Conflict while there is another such one, but with `wait`."""
        if self._claims and not wait:
            raise Conflict("another promotion is under way; wait until it has ended")
        self._claims += 1
        try:
            async with self._lock:
                yield
        finally:
            self._claims -= 1

    @contextlib.asynccontextmanager
    async def in_passing(self) -> AsyncIterator[None]:
        async with self._lock:
            yield
