"""Retries across the API processes of a home: what one of them answers, another one finds in Redis.

Redis may be lost at any time: a process then remembers what it answered itself. A question costs one round trip, and
only a request with an `Idempotency-Key`, one that says it is a retry, or one that this process has answered before
asks.
"""

import asyncio
import hashlib
import time
from dataclasses import dataclass
from typing import Any

import orjson

from feedback.errors import Conflict
from feedback.ids import new_id
from serve import background
from serve.chat.retries import REMEMBERED_S, Answer, Attempt, KeyReused, Retries
from serve.redis_link import RedisLink

# For so long others take a request for one that is being answered, unless they hear of it again: whoever was answering
# it may have been killed.
PENDING_S = 20.0
RENEWALS = 4

# A process that was stopped for longer than that may find that another one has answered meanwhile: it changes nothing
# but what it has put there itself.
RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
DROP = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"
KEEP = """
local found = redis.call('get', KEYS[1])
return (not found or found == ARGV[1]) and redis.call('set', KEYS[1], ARGV[2], 'EX', ARGV[3]) or 0
"""


class SharedRetries(Retries):
    """`begin_anywhere` in place of `begin`; `keep` and `drop` tell the other processes in the background."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._redis = RedisLink(redis_url, "retries are known to this process only")
        self._owner = new_id("api")
        self._renewals: dict[str, asyncio.Task[None]] = {}

    async def begin_anywhere(self, attempt: Attempt) -> Answer | None:
        """The answer that this request got before, from whichever process. Raises as `begin`."""
        known = self.begin(attempt)
        if not (attempt.named or attempt.repeated):
            # Asked anew: should this come to nothing, its retry is not to get what was answered to another request.
            if self._forget(attempt.name):
                await self._redis.ask(lambda redis: redis.delete(_key(attempt)))
            return None
        if known is not None:
            return known
        try:
            known = await self._claim(attempt)
        except BaseException:
            self.drop(attempt)
            raise
        if known is not None:
            super().drop(attempt)
        return known

    def keep(self, attempt: Attempt, content: bytes, media_type: str) -> bool:
        kept = super().keep(attempt, content, media_type)
        self._let_go(attempt)
        if kept:
            key, pending, kept_s = _key(attempt), self._pending_value(attempt), round(REMEMBERED_S)
            value = orjson.dumps({"digest": attempt.digest, "media_type": media_type, "content": content.decode()})
            if attempt.named:
                self._redis.tell(lambda redis: redis.eval(KEEP, 1, key, pending, value, kept_s))
            else:
                self._redis.tell(lambda redis: redis.set(key, value, ex=kept_s))
        return kept

    def drop(self, attempt: Attempt) -> bool:
        self._let_go(attempt)
        dropped = super().drop(attempt)
        if dropped:
            self._redis.tell(lambda redis: redis.eval(DROP, 1, _key(attempt), self._pending_value(attempt)))
        return dropped

    async def stop(self) -> None:
        for renewal in self._renewals.values():
            renewal.cancel()
        await self._redis.stop()

    async def _renew(self, attempt: Attempt) -> None:
        key, pending = _key(attempt), self._pending_value(attempt)
        while True:
            await asyncio.sleep(PENDING_S / RENEWALS)
            await self._redis.ask(lambda redis: redis.eval(RENEW, 1, key, pending, round(1000 * PENDING_S)))

    def _let_go(self, attempt: Attempt) -> None:
        if renewal := self._renewals.pop(attempt.name, None):
            renewal.cancel()

    def _pending_value(self, attempt: Attempt) -> bytes:
        """What says that this process, and no other, is answering it."""
        return orjson.dumps({"digest": attempt.digest, "media_type": "", "content": None, "owner": self._owner})

    async def _claim(self, attempt: Attempt) -> Answer | None:
        """What another process has answered; None when nobody has, and then no other process may."""
        key = _key(attempt)
        if attempt.named:
            pending = self._pending_value(attempt)
            if await self._redis.ask(lambda redis: redis.set(key, pending, nx=True, px=round(1000 * PENDING_S))):
                renewing = self._renew(attempt)
                self._renewals[attempt.name] = background.start(renewing, "a request that is being answered")
                return None
        said: Said | None = await self._redis.ask(lambda redis: _said(redis, key))
        if said is None:
            return None
        if said.digest != attempt.digest:
            raise KeyReused("this Idempotency-Key came with another body before", param="Idempotency-Key")
        if said.content is None:
            raise Conflict("the first request with this Idempotency-Key is still being answered")
        until = time.monotonic() + REMEMBERED_S
        return Answer(attempt.digest, until, said.content.encode(), said.media_type)


@dataclass(frozen=True)
class Said:
    """What a process has put into Redis about a request: its answer, or None while it is being answered."""

    digest: str
    media_type: str
    content: str | None


async def _said(redis: Any, key: str) -> Said | None:
    """Raises ValueError for what none of our processes has put there."""
    value = await redis.get(key)
    if value is None:
        return None
    said = orjson.loads(value)
    if not isinstance(said, dict):
        raise ValueError("no object")
    digest, media_type, content = (said.get(name) for name in ("digest", "media_type", "content"))
    if not (isinstance(digest, str) and isinstance(media_type, str) and isinstance(content, str | None)):
        raise ValueError("no answer")
    return Said(digest, media_type, content)


def _key(attempt: Attempt) -> str:
    return "tandem:answer:" + hashlib.sha256(attempt.name.encode()).hexdigest()
