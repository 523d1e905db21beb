"""Retries across the API processes of a home: what one of them answers, another one finds in Redis.

Redis may be lost at any time: a process then remembers what it answered itself. A question costs one round trip, and
only a request with an `Idempotency-Key`, or one that says it is a retry, asks.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

import orjson

from feedback.errors import Conflict, TandemError
from serve.chat.retries import REMEMBERED_S, Answer, Attempt, KeyReused, Retries

log = logging.getLogger(__name__)

TIMEOUT_S = 0.25
# Redis that did not answer is left alone for this long.
PAUSE_S = 5.0


class SharedRetries(Retries):
    """`begin_anywhere` in place of `begin`; `keep` and `drop` tell the other processes in the background."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._url = redis_url.replace("redis+socket://", "unix://")
        self._client: Any = None
        self._silent_until = 0.0
        self._telling: set[asyncio.Task[None]] = set()

    async def begin_anywhere(self, attempt: Attempt) -> Answer | None:
        """The answer that this request got before, from whichever process. Raises as `begin`."""
        known = self.begin(attempt)
        if known is not None or not (attempt.named or attempt.repeated):
            return known
        try:
            known = await self._claim(attempt)
        except TandemError:
            super().drop(attempt)
            raise
        if known is not None:
            super().drop(attempt)
        return known

    def keep(self, attempt: Attempt, content: bytes, media_type: str) -> None:
        super().keep(attempt, content, media_type)
        if attempt.name in self._answers:
            value = orjson.dumps({"digest": attempt.digest, "media_type": media_type, "content": content.decode()})
            self._tell("set", _key(attempt), value, ex=round(REMEMBERED_S))

    def drop(self, attempt: Attempt) -> bool:
        dropped = super().drop(attempt)
        if dropped:
            self._tell("delete", _key(attempt))
        return dropped

    async def stop(self) -> None:
        await asyncio.gather(*self._telling, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _claim(self, attempt: Attempt) -> Answer | None:
        """What another process has answered; None when nobody has, and then no other process may."""
        key = _key(attempt)
        if attempt.named:
            pending = orjson.dumps({"digest": attempt.digest, "media_type": "", "content": None})
            if await self._ask("set", key, pending, nx=True, ex=round(REMEMBERED_S)):
                return None
        value = await self._ask("get", key)
        if value is None:
            return None
        said = orjson.loads(value)
        if said["digest"] != attempt.digest:
            raise KeyReused("this Idempotency-Key came with another body before", param="Idempotency-Key")
        if said["content"] is None:
            raise Conflict("the first request with this Idempotency-Key is still being answered")
        until = time.monotonic() + REMEMBERED_S
        return Answer(attempt.digest, until, said["content"].encode(), said["media_type"])

    def _tell(self, command: str, *arguments: Any, **options: Any) -> None:
        async def tell() -> None:
            await self._ask(command, *arguments, **options)

        self._hold(tell())

    def _hold(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        """What Redis says; None when it does not answer."""
        if time.monotonic() < self._silent_until:
            return None
        # A tenth of a second to import: not before somebody asks.
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        if self._client is None:
            self._client = Redis.from_url(self._url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        try:
            return await getattr(self._client, command)(*arguments, **options)
        except (RedisError, OSError, TimeoutError) as error:
            self._silent_until = time.monotonic() + PAUSE_S
            log.warning("retries are known to this process only: Redis does not answer (%s)", type(error).__name__)
            return None


def _key(attempt: Attempt) -> str:
    return "tandem:answer:" + hashlib.sha256(attempt.name.encode()).hexdigest()
