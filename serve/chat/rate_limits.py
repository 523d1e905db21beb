"""How much one key may ask for in a minute: chats and tokens, over all API processes that share a Redis.

The last 60 seconds are estimated from two counters: that of this minute, and of that of the one before the share which
lies within those seconds. A chat is charged with what it may come to, and gets back what it did not take. While Redis
does not answer, each process counts for itself.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from feedback.settings import ServeSettings
from serve.chat.request import ChatRequest
from serve.errors import RateLimited
from serve.redis_link import RedisLink

MINUTE_S = 60.0
KEPT_S = 150
# A reply whose length the client did not bound is charged with this much until it is known.
UNBOUNDED_REPLY_TOKENS = 256
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Window:
    """What was used of `limit`: `previous` in the last minute by the clock, `current` in this one, `elapsed` of which
    has passed, from 0 to 1.
    """

    limit: int
    previous: int
    current: int
    elapsed: float

    @property
    def used(self) -> float:
        return max(0, self.previous) * (1 - self.elapsed) + max(0, self.current)

    @property
    def remaining(self) -> int:
        return max(0, math.floor(self.limit - self.used))

    def wait_s(self, cost: int) -> float:
        """Seconds until `cost` fits if nothing else is asked for; 0 when it does now. `cost` is at most the limit."""
        if self.used + cost <= self.limit:
            return 0.0
        room = self.limit - cost - self.current
        if room >= 0:
            return MINUTE_S * (1 - room / self.previous - self.elapsed)
        return MINUTE_S * (1 - self.elapsed + 1 - (self.limit - cost) / self.current)

    @property
    def reset_s(self) -> float:
        """Seconds until nothing of what was used counts any more."""
        if self.current > 0:
            return MINUTE_S * (2 - self.elapsed)
        return MINUTE_S * (1 - self.elapsed) if self.previous > 0 else 0.0


@dataclass
class Charge:
    """What a chat was charged with, and what it says of its key's limits. `settle` makes it what it came to."""

    headers: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    prompt_tokens: int = 0
    minute: int = 0


class RateLimits:
    """Counts by key, where the settings or the key itself limit it. `now` gives seconds since 1970, alike in all
    processes.
    """

    def __init__(self, settings: ServeSettings, redis_url: str, now: Callable[[], float] = time.time) -> None:
        self._limits = {
            name: limit
            for name, limit in (
                ("requests", settings.requests_per_minute),
                ("tokens", settings.tokens_per_minute),
            )
            if limit is not None
        }
        self._redis = RedisLink(redis_url, "rate limits hold for each process by itself")
        self._now = now
        self._counts: dict[str, int] = {}
        self._counted_minute = 0

    async def charge(
        self, key_id: str, chat: ChatRequest, body_bytes: int, own: Mapping[str, int] | None = None
    ) -> Charge:
        """Charge a key with a chat; its `own` limits, by their names, take the place of those that are set for all.

        Raises RateLimited, and then it was charged nothing.
        """
        limits = self._limits if not own else {**self._limits, **own}
        if not limits:
            return Charge()
        prompt = math.ceil(body_bytes / BYTES_PER_TOKEN)
        tokens = prompt + longest_replies(chat)
        costs = {name: min(limit, 1 if name == "requests" else tokens) for name, limit in limits.items()}
        minute, seconds = divmod(self._now(), MINUTE_S)
        minute = int(minute)
        windows = await self._add(key_id, minute, costs, limits, seconds / MINUTE_S)
        before = {
            name: Window(window.limit, window.previous, window.current - costs[name], window.elapsed)
            for name, window in windows.items()
        }
        waits = {name: window.wait_s(costs[name]) for name, window in before.items()}
        slowest = max(waits, key=lambda name: waits[name])
        if waits[slowest] > 0:
            self._change(key_id, minute, {name: -cost for name, cost in costs.items()})
            after_s = max(1, math.ceil(waits[slowest]))
            raise RateLimited(
                f"this key may use {limits[slowest]} {slowest} a minute; try again in {after_s} s",
                retry_after_s=after_s,
                limits=headers(before),
            )
        return Charge(headers(windows), costs.get("tokens", 0), prompt, minute)

    def settle(self, key_id: str, charge: Charge, tokens: int) -> None:
        """The chat took `tokens`: more is charged now, what it did not take is given back. The second time is free."""
        if not charge.tokens or not charge.minute:
            return
        more, minute = tokens - charge.tokens, charge.minute
        charge.minute = 0
        if more > 0:
            self._change(key_id, int(self._now() // MINUTE_S), {"tokens": more})
        elif more < 0:
            self._change(key_id, minute, {"tokens": more})

    async def stop(self) -> None:
        await self._redis.stop()

    async def _add(
        self, key_id: str, minute: int, costs: dict[str, int], limits: dict[str, int], elapsed: float
    ) -> dict[str, Window]:
        mine = self._add_here(key_id, minute, costs)

        async def add(redis: Any) -> Any:
            pipeline = redis.pipeline(transaction=False)
            for name, cost in costs.items():
                pipeline.incrby(_name(key_id, name, minute), cost)
                pipeline.expire(_name(key_id, name, minute), KEPT_S)
                pipeline.get(_name(key_id, name, minute - 1))
            said = await pipeline.execute()
            return {name: (int(said[3 * at + 2] or 0), int(said[3 * at])) for at, name in enumerate(costs)}

        counted: dict[str, tuple[int, int]] = await self._redis.ask(add) or mine
        return {name: Window(limits[name], *counts, elapsed) for name, counts in counted.items()}

    def _change(self, key_id: str, minute: int, costs: dict[str, int]) -> None:
        self._add_here(key_id, minute, costs)

        async def change(redis: Any) -> None:
            for name, cost in costs.items():
                await redis.incrby(_name(key_id, name, minute), cost)
                await redis.expire(_name(key_id, name, minute), KEPT_S)

        self._redis.tell(change)

    def _add_here(self, key_id: str, minute: int, costs: dict[str, int]) -> dict[str, tuple[int, int]]:
        """This process's own counts after it: of the minute before and of this one."""
        if minute > self._counted_minute:
            self._counted_minute = minute
            recent = (f":{minute}", f":{minute - 1}")
            self._counts = {name: count for name, count in self._counts.items() if name.endswith(recent)}
        found = {}
        for measure, cost in costs.items():
            name = _name(key_id, measure, minute)
            self._counts[name] = self._counts.get(name, 0) + cost
            found[measure] = (self._counts.get(_name(key_id, measure, minute - 1), 0), self._counts[name])
        return found


def longest_replies(chat: ChatRequest) -> int:
    """Tokens that the replies to a chat may come to, all of them together."""
    asked = [chat.sampling.get(name) for name in ("max_completion_tokens", "max_tokens")]
    bound = next((value for value in asked if isinstance(value, int) and value > 0), UNBOUNDED_REPLY_TOKENS)
    return bound * chat.n * chat.best_of


def headers(windows: dict[str, Window]) -> dict[str, str]:
    """As OpenAI names them."""
    said = {}
    for name, window in windows.items():
        said[f"x-ratelimit-limit-{name}"] = str(window.limit)
        said[f"x-ratelimit-remaining-{name}"] = str(window.remaining)
        said[f"x-ratelimit-reset-{name}"] = duration(window.reset_s)
    return said


def duration(seconds: float) -> str:
    """`850ms`, `12s`, `1m30s`, as OpenAI writes them."""
    if seconds < 1:
        return f"{math.ceil(1000 * seconds)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _name(key_id: str, measure: str, minute: int) -> str:
    digest = hashlib.sha256(key_id.encode()).hexdigest()[:32]
    return f"tandem:rate:{measure}:{digest}:{minute}"
