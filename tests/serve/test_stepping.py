"""Two streams in step, whatever the engines send when."""

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serve.chat.stepping import InStep


class Reply:
    def __init__(self, choice: int) -> None:
        self.choice = choice


class Scripted:
    """A generation whose chunks, each of so many tokens, come one by one, with pauses as told."""

    def __init__(self, choice: int, sizes: list[int], pauses: list[bool]) -> None:
        self.reply = Reply(choice)
        self.pending: deque[dict[str, Any]] = deque()
        self._coming = deque(
            {"delta": {"content": "x" * size}, "token_ids": [1] * size, "finish_reason": None} for size in sizes
        )
        self._coming.appendleft({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})
        self._pauses = deque(pauses)

    @property
    def is_whole(self) -> bool:
        return not self._coming

    @property
    def ended(self) -> bool:
        return self.is_whole and not self.pending

    def take(self) -> None:
        if self._coming and not (self._pauses and self._pauses.popleft()):
            self.pending.append(self._coming.popleft())


sizes = st.lists(st.integers(1, 3), min_size=1, max_size=12)
pauses = st.lists(st.booleans(), max_size=12)


@settings(max_examples=200, deadline=None)
@given(sizes, sizes, pauses, pauses)
def test_neither_side_is_ahead_and_nothing_is_lost(
    left: list[int], right: list[int], left_pauses: list[bool], right_pauses: list[bool]
) -> None:
    steps = InStep(Scripted(0, left, left_pauses), Scripted(1, right, right_pauses))  # type: ignore[arg-type]
    blocks: list[list[tuple[int, dict[str, Any]]]] = []
    while not steps.ended:
        blocks += steps.blocks()
    released, ended = [0, 0], (sum(left), sum(right))
    assert [["role" in chunk["delta"] for _, chunk in block] for block in blocks].count([True, True]) == 1
    for block in blocks:
        both_went_on = all(count < end for count, end in zip(released, ended, strict=True))
        assert [index for index, _ in block] == ([0, 1] if both_went_on else [block[0][0]])
        for index, chunk in block:
            size = len(chunk.get("token_ids") or ())
            released[index] += size
            assert chunk["delta"]["content"] == "x" * size
        if all(count < end for count, end in zip(released, ended, strict=True)):
            # A chunk that an engine sent whole is not taken apart: two tokens are the most that it can be ahead by.
            assert abs(released[0] - released[1]) <= 2
    assert tuple(released) == ended
