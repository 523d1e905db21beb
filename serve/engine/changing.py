"""One change at a time of what the engines of this process hold. What is done in passing, nobody having asked for it
here, lets what is asked for wait until it has ended, instead of having it refused.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from feedback.errors import Conflict


class Claim:
    """On the engines, for a change that somebody waits for."""

    def __init__(self, claims: "set[Claim]") -> None:
        self._claims = claims
        claims.add(self)

    def settle(self) -> None:
        """The change was made: what is still to be done is done in passing. Again changes nothing."""
        self._claims.discard(self)


class Changing:
    """Held for as long as a change takes."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._claims: set[Claim] = set()

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    @contextlib.asynccontextmanager
    async def claimed(self, *, wait: bool = False) -> AsyncIterator[Claim]:
        """For a change that somebody asked for. Raises Conflict while there is another such one, but with `wait`."""
        if self._claims and not wait:
            raise Conflict("another promotion is under way; wait until it has ended")
        claim = Claim(self._claims)
        try:
            async with self._lock:
                yield claim
        finally:
            claim.settle()

    @contextlib.asynccontextmanager
    async def in_passing(self) -> AsyncIterator[None]:
        async with self._lock:
            yield
