"""The chunks of one reply, or of two that are shown side by side, in the order in which they are released."""

import math
from collections.abc import AsyncIterator
from typing import Any

from serve.chat.generation import Generation

Chunk = dict[str, Any]
PLAIN = frozenset({"role", "content"})


async def in_step(generations: list[Generation]) -> AsyncIterator[list[tuple[int, Chunk]]]:
    """Blocks of chunks, each with the index of its choice.

    Of two replies none is ahead of the other: each block holds one chunk of either, up to the same token, whatever the
    engines have sent by then, so that neither order, number nor timing of chunks tells the versions apart. When one
    has ended the other goes on alone.
    """
    if len(generations) == 1:
        only = generations[0]
        while await only.more():
            yield [(0, chunk) for chunk in drain(only)]
        return
    left, right = Side(generations[0]), Side(generations[1])
    while True:
        left_more, right_more = await left.generation.more(), await right.generation.more()
        if left_more and right_more:
            yield await _next_of_both(left, right)
        elif left_more or right_more:
            alone = left if left_more else right
            yield alone.take(math.inf)
        else:
            return


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


async def _next_of_both(left: Side, right: Side) -> list[tuple[int, Chunk]]:
    while True:
        up_to = min(left.arrived, right.arrived)
        if left.can_release(up_to) and right.can_release(up_to):
            return left.take(up_to) + right.take(up_to)
        behind, ahead = sorted((left, right), key=lambda side: side.arrived)
        if not await behind.generation.grow():
            # It has ended in the middle of what the other has sent as one chunk.
            first = ahead.released + tokens(ahead.generation.pending[0])
            pair = {side: side.take(math.inf if side is behind else first) for side in (left, right)}
            return pair[left] + pair[right]


def tokens(chunk: Chunk) -> int:
    return len(chunk.get("token_ids") or ())


def merge(chunks: list[Chunk]) -> list[Chunk]:
    """Chunks of plain text as one; others stay as they are."""
    if len(chunks) < 2 or any(chunk["delta"].keys() - PLAIN for chunk in chunks):
        return chunks
    delta = {name: value for chunk in chunks for name, value in chunk["delta"].items() if name == "role"}
    logprobs = [entry for chunk in chunks for entry in (chunk.get("logprobs") or {}).get("content") or ()]
    return [
        {
            "delta": {**delta, "content": "".join(chunk["delta"].get("content") or "" for chunk in chunks)},
            "logprobs": {"content": logprobs} if logprobs else None,
            "finish_reason": chunks[-1].get("finish_reason"),
            "token_ids": [token for chunk in chunks for token in chunk.get("token_ids") or ()],
        }
    ]


def drain(generation: Generation) -> list[Chunk]:
    chunks = list(generation.pending)
    generation.pending.clear()
    return chunks
