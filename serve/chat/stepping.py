"""The chunks of one reply, or of two that are shown side by side, in the order in which they are released."""

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from serve.chat.generation import Generation
from serve.chat.reply import JOINED_FIELDS, join_calls

Chunk = dict[str, Any]
# However slow the two were together, the longer one of them does not go on more slowly than this.
LONGEST_GAP_S = 0.1
# The pace where one ended before there was any: that of neither engine.
USUAL_GAP_S = LONGEST_GAP_S / 2


class Alone:
    """One reply: its chunks as they come."""

    wait_s = None

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    @property
    def ended(self) -> bool:
        return self._generation.ended

    def hurry(self) -> None:
        """Nothing is held back."""

    def release(self) -> list[tuple[int, Chunk]]:
        """What has come, each chunk with the index of its choice. Raises EngineLost, EngineRefused, ReplyFailed."""
        self._generation.take()
        pending = self._generation.pending
        block = [(0, chunk) for chunk in pending]
        pending.clear()
        return block


class InStep:
    """Two replies of which none is ahead of the other: each block holds one chunk of either, up to the same token,
    whatever the engines have sent by then, so that neither order, number nor timing of chunks tells the versions apart.
    When one has ended the other goes on alone, no faster than both were: else a reply would show by its haste which
    engine has less to do. `wait_s` is how long what has come is still to be held for that; None where nothing is.
    """

    def __init__(self, left: Generation, right: Generation, now: Callable[[], float] = time.monotonic) -> None:
        self._left, self._right = Side(left), Side(right)
        self.wait_s: float | None = None
        self._now = now
        # Of both: when they were released last, how far, and the seconds for each token so far.
        self._released_at, self._together = math.nan, 0
        self._gaps_s: list[float] = []
        # Of the longer one: how far it was when the other ended, and its pace from there.
        self._alone_from, self._gap_s = 0, math.nan

    @property
    def ended(self) -> bool:
        return self._left.generation.ended and self._right.generation.ended

    def hurry(self) -> None:
        """Hold nothing of the longer one back any more: there is no time left for that."""
        self._gap_s = 0.0

    def release(self) -> list[tuple[int, Chunk]]:
        """The next block, each chunk with the index of its choice; empty while it is not whole, and at the end.

        Raises EngineLost, EngineRefused, ReplyFailed.
        """
        left, right = self._left, self._right
        self.wait_s = None
        left.generation.take()
        right.generation.take()
        if left.generation.pending and right.generation.pending:
            block = self._of_both()
            if block:
                self._note_pace()
            return block
        for side, other in ((left, right), (right, left)):
            if not side.generation.pending and not side.generation.ended:
                return []
            if side.generation.ended and other.generation.pending:
                return self._of_longer(other)
        return []

    def _of_longer(self, side: "Side") -> list[tuple[int, Chunk]]:
        """Of the one that goes on alone what may go by now, at the pace of both."""
        if math.isnan(self._gap_s):
            self._alone_from, self._gap_s = side.released, min(median(self._gaps_s or [USUAL_GAP_S]), LONGEST_GAP_S)
        if not self._gap_s or not self._together:
            return side.take(math.inf)
        elapsed_s = self._now() - self._released_at
        block = side.take(self._alone_from + elapsed_s / self._gap_s)
        if side.generation.pending:
            next_one = side.released + tokens(side.generation.pending[0])
            self.wait_s = max(0.0, (next_one - self._alone_from) * self._gap_s - elapsed_s)
        return block

    def _note_pace(self) -> None:
        """A block of both was released."""
        released, at = max(self._left.released, self._right.released), self._now()
        if self._together and released > self._together:
            self._gaps_s.append((at - self._released_at) / (released - self._together))
        self._together, self._released_at = released, at

    def _of_both(self) -> list[tuple[int, Chunk]]:
        left, right = self._left, self._right
        up_to = min(left.arrived, right.arrived)
        if left.can_release(up_to) and right.can_release(up_to):
            return left.take(up_to) + right.take(up_to)
        behind, ahead = sorted((left, right), key=lambda side: side.arrived)
        if not behind.generation.is_whole:
            return []
        # It has ended in the middle of what the other has sent as one chunk.
        first = ahead.released + tokens(ahead.generation.pending[0])
        pair = {side: side.take(math.inf if side is behind else first) for side in (left, right)}
        return pair[left] + pair[right]


class Side:
    """One of two replies, and how many of its tokens were released."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.released = 0

    @property
    def arrived(self) -> int:
        return self.released + sum(map(tokens, self.generation.pending))

    def can_release(self, up_to: float) -> bool:
        return self.released + tokens(self.generation.pending[0]) <= up_to

    def take(self, up_to: float) -> list[tuple[int, Chunk]]:
        """Its chunks up to that many tokens of the reply, as one."""
        taken: list[Chunk] = []
        pending = self.generation.pending
        while pending and self.released + tokens(pending[0]) <= up_to:
            chunk = pending.popleft()
            self.released += tokens(chunk)
            taken.append(chunk)
        return [(self.generation.reply.choice, chunk) for chunk in merge(taken)]


def tokens(chunk: Chunk) -> int:
    return len(chunk.get("token_ids") or ())


def merge(chunks: list[Chunk]) -> list[Chunk]:
    """As one."""
    if len(chunks) < 2:
        return chunks
    delta: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for name, value in chunk["delta"].items():
            if name == "tool_calls":
                join_calls(calls, value or ())
            elif name in JOINED_FIELDS:
                delta[name] = delta.get(name, "") + (value or "")
            else:
                delta[name] = value
    if calls:
        delta["tool_calls"] = list(calls.values())
    logprobs = [entry for chunk in chunks for entry in (chunk.get("logprobs") or {}).get("content") or ()]
    return [
        {
            "delta": delta,
            "logprobs": {"content": logprobs} if logprobs else None,
            "finish_reason": chunks[-1].get("finish_reason"),
            "token_ids": [token for chunk in chunks for token in chunk.get("token_ids") or ()],
        }
    ]
