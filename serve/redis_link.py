"""Redis as the API process asks it: for what may be lost, never waited for long, left alone for a while when silent."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

TIMEOUT_S = 0.25
# Redis that did not answer is left alone for this long.
PAUSE_S = 5.0

Question = Callable[[Any], Awaitable[Any]]


class RedisLink:
    """`lost` says in the log what it means that Redis does not answer."""

    def __init__(self, redis_url: str, lost: str) -> None:
        self._url = redis_url.replace("redis+socket://", "unix://")
        self._lost = lost
        self._client: Any = None
        self._silent_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> Any:
        """What `question` gets from the client (`redis.asyncio.Redis`); None when Redis does not answer, or `question`
        raises ValueError: for what none of our processes has put there. So it is where its address names an option that
        there is not."""
        if time.monotonic() < self._silent_until:
            return None
        # A tenth of a second to import: not before somebody asks.
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        try:
            if self._client is None:
                self._client = Redis.from_url(self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
            return await question(self._client)
        except (RedisError, OSError, TimeoutError, ValueError, TypeError) as error:
            self._silent_until = time.monotonic() + PAUSE_S
            log.warning("%s: Redis does not answer as it should (%s)", self._lost, type(error).__name__)
            return None

    def tell(self, question: Question) -> None:
        """The same in the background; nobody waits for it."""

        async def tell() -> None:
            await self.ask(question)

        task = asyncio.ensure_future(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def stop(self) -> None:
        await asyncio.gather(*self._telling, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
