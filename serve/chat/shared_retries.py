"""Retries across the API processes of a home: what one of them answers, another one finds in Redis.

Redis may be lost at any time: a process then remembers what it answered itself. A question costs one round trip, and
only a request with an `Idempotency-Key`, or one that says it is a retry, asks.
"""

import asyncio
import hashlib
import time

import orjson

from feedback.errors import Conflict, TandemError
from serve import background
from serve.chat.retries import REMEMBERED_S, Answer, Attempt, KeyReused, Retries
from serve.redis_link import RedisLink

# For so long others take a request for one that is being answered, unless they hear of it again: whoever was answering
# it may have been killed.
PENDING_S = 20.0
RENEWALS = 4


class SharedRetries(Retries):
    """`begin_anywhere` in place of `begin`; `keep` and `drop` tell the other processes in the background."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._redis = RedisLink(redis_url, "retries are known to this process only")
        self._renewals: dict[str, asyncio.Task[None]] = {}

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
        self._let_go(attempt)
        if attempt.name in self._answers:
            value = orjson.dumps({"digest": attempt.digest, "media_type": media_type, "content": content.decode()})
            self._redis.tell(lambda redis: redis.set(_key(attempt), value, ex=round(REMEMBERED_S)))

    def drop(self, attempt: Attempt) -> bool:
        dropped = super().drop(attempt)
        if dropped:
            self._let_go(attempt)
            self._redis.tell(lambda redis: redis.delete(_key(attempt)))
        return dropped

    async def stop(self) -> None:
        for renewal in self._renewals.values():
            renewal.cancel()
        await self._redis.stop()

    async def _renew(self, key: str) -> None:
        while True:
            await asyncio.sleep(PENDING_S / RENEWALS)
            await self._redis.ask(lambda redis: redis.pexpire(key, round(1000 * PENDING_S)))

    def _let_go(self, attempt: Attempt) -> None:
        renewal = self._renewals.pop(attempt.name, None)
        if renewal is not None:
            renewal.cancel()

    async def _claim(self, attempt: Attempt) -> Answer | None:
        """What another process has answered; None when nobody has, and then no other process may."""
        key = _key(attempt)
        if attempt.named:
            pending = orjson.dumps({"digest": attempt.digest, "media_type": "", "content": None})
            if await self._redis.ask(lambda redis: redis.set(key, pending, nx=True, px=round(1000 * PENDING_S))):
                self._renewals[attempt.name] = background.start(self._renew(key), "a request that is being answered")
                return None
        value = await self._redis.ask(lambda redis: redis.get(key))
        if value is None:
            return None
        said = orjson.loads(value)
        if said["digest"] != attempt.digest:
            raise KeyReused("this Idempotency-Key came with another body before", param="Idempotency-Key")
        if said["content"] is None:
            raise Conflict("the first request with this Idempotency-Key is still being answered")
        until = time.monotonic() + REMEMBERED_S
        return Answer(attempt.digest, until, said["content"].encode(), said["media_type"])


def _key(attempt: Attempt) -> str:
    return "tandem:answer:" + hashlib.sha256(attempt.name.encode()).hexdigest()
