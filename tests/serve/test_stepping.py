"""Two streams in step, whatever the engines send when."""

from collections import deque
from collections.abc import Callable
from itertools import count, cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.chat.stepping import LONGEST_GAP_S, USUAL_GAP_S, InStep, merge

Kind = Callable[[int], dict[str, Any]]


class Reply:
    def __init__(self, choice: int) -> None:
        self.choice = choice


def text(size: int) -> dict[str, Any]:
    return {"content": "x" * size}


def call(size: int) -> dict[str, Any]:
    """A piece of a tool's call."""
    return {"tool_calls": [{"index": 0, "function": {"arguments": "x" * size}}]}


def nothing(_: int) -> dict[str, Any]:
    """Tokens that say nothing yet."""
    return {}


def said(delta: dict[str, Any]) -> str:
    pieces = [piece["function"]["arguments"] for piece in delta.get("tool_calls", ())]
    return str(delta.get("content", "")) + "".join(pieces)


class Scripted:
    """A generation whose chunks, each of so many tokens, come one by one, with pauses as told."""

    def __init__(self, choice: int, sizes: list[int], pauses: list[bool], kinds: list[Kind]) -> None:
        self.reply = Reply(choice)
        self.pending: deque[dict[str, Any]] = deque()
        deltas = [kind(size) for size, kind in zip(sizes, cycle(kinds), strict=False)]
        self.whole = "".join(map(said, deltas))
        self._coming = deque(
            {"delta": delta, "token_ids": [1] * size, "finish_reason": None}
            for size, delta in zip(sizes, deltas, strict=True)
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
kinds = st.lists(st.sampled_from([text, call, nothing]), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(sizes, sizes, pauses, pauses, kinds, kinds)
def test_neither_side_is_ahead_and_nothing_is_lost(
    left: list[int],
    right: list[int],
    left_pauses: list[bool],
    right_pauses: list[bool],
    left_kinds: list[Kind],
    right_kinds: list[Kind],
) -> None:
    sides = Scripted(0, left, left_pauses, left_kinds), Scripted(1, right, right_pauses, right_kinds)
    # A second goes by at each look: nothing is held back for long.
    steps, heard = InStep(*sides, count().__next__), ["", ""]  # type: ignore[arg-type]
    blocks: list[list[tuple[int, dict[str, Any]]]] = []
    while not steps.ended:
        blocks += iter(steps.release, [])
    released, ended = [0, 0], (sum(left), sum(right))
    assert [["role" in chunk["delta"] for _, chunk in block] for block in blocks].count([True, True]) == 1
    for block in blocks:
        both_went_on = all(count < end for count, end in zip(released, ended, strict=True))
        assert [index for index, _ in block] == ([0, 1] if both_went_on else [block[0][0]])
        for index, chunk in block:
            size = len(chunk.get("token_ids") or ())
            released[index] += size
            heard[index] += said(chunk["delta"])
        if all(count < end for count, end in zip(released, ended, strict=True)):
            # A chunk that an engine sent whole is not taken apart: two tokens are the most that it can be ahead by.
            assert abs(released[0] - released[1]) <= 2
    assert tuple(released) == ended
    assert heard == [side.whole for side in sides]


class Timed(Scripted):
    """Its tokens come `every_s`, by the clock of the test."""

    def __init__(self, choice: int, count: int, every_s: float, clock: list[float]) -> None:
        super().__init__(choice, [1] * count, [], [text])
        self._every_s, self._clock, self._next_at = every_s, clock, 0.0

    def take(self) -> None:
        while self._coming and self._next_at <= self._clock[0]:
            self.pending.append(self._coming.popleft())
            self._next_at += self._every_s


SLOW_S, QUICK_S = 0.04, 0.001


def released_at(left: int, right: int, left_every_s: float, right_every_s: float) -> list[tuple[float, int]]:
    """When each token was released, and of which side. One looks when something comes or `wait_s` is up."""
    clock, found = [0.0], list[tuple[float, int]]()
    steps = InStep(
        Timed(0, left, left_every_s, clock),  # type: ignore[arg-type]
        Timed(1, right, right_every_s, clock),  # type: ignore[arg-type]
        lambda: clock[0],
    )
    while not steps.ended:
        for block in iter(steps.release, []):
            found += [(clock[0], index) for index, chunk in block for _ in chunk.get("token_ids") or ()]
        clock[0] += QUICK_S if steps.wait_s is None else min(QUICK_S, max(steps.wait_s, 1e-6))
    return found


@pytest.mark.parametrize(("left", "right"), [(6, 20), (20, 6), (10, 10)])
def test_the_longer_reply_does_not_tell_by_its_haste_which_engine_it_is_from(left: int, right: int) -> None:
    one, other = released_at(left, right, SLOW_S, QUICK_S), released_at(left, right, QUICK_S, SLOW_S)
    assert [side for _, side in one] == [side for _, side in other] and len(one) == left + right
    assert [at for at, _ in one] == pytest.approx([at for at, _ in other], abs=2 * QUICK_S)


def test_a_reply_of_one_token_does_not_have_the_other_go_at_its_engines_haste() -> None:
    for every_s in (SLOW_S, QUICK_S):
        times = [at for at, _ in released_at(1, 9, QUICK_S, every_s)]
        assert times[-1] - times[1] == pytest.approx(8 * USUAL_GAP_S, abs=2 * QUICK_S)


def test_it_does_not_wait_for_ever_where_both_were_slow() -> None:
    times = [at for at, _ in released_at(3, 9, 5.0, QUICK_S)]
    assert times[-1] - times[5] == pytest.approx(6 * LONGEST_GAP_S, abs=2 * QUICK_S)


def test_the_pieces_of_calls_are_put_together_by_their_index() -> None:
    first = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "add", "arguments": ""}}
    second = {"index": 1, "id": "call_b", "type": "function", "function": {"name": "sum", "arguments": "{}"}}
    deltas = [{"content": "So"}, {"tool_calls": [first]}, call(2), {"tool_calls": [second]}, call(1)]
    (merged,) = merge([{"delta": delta, "token_ids": [at]} for at, delta in enumerate(deltas)])
    assert merged["delta"] == {
        "content": "So",
        "tool_calls": [{**first, "function": {"name": "add", "arguments": "xxx"}}, second],
    }
    assert merged["token_ids"] == [0, 1, 2, 3, 4] and first["function"] == {"name": "add", "arguments": ""}
