"""Nothing that a client sees of a comparison tells its versions apart: a guesser with everything at hand does no better
than chance, while the same guesser sees through a comparison that leaks.
"""

import json
import math
import time
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from feedback.schema import Comparison, Sample
from tests.serve.api_process import promote
from tests.serve.conftest import Tandem

pytestmark = pytest.mark.engine

TRIALS = 80
MESSAGES = [{"role": "user", "content": "Name three colors."}]
# What the policies write differs, of course, and the client is to judge just that: everything else is looked at.
LENGTH = 12
# Five standard deviations of a fair coin: there are many hints.
CHANCE = 0.5 + 5 * math.sqrt(0.25 / TRIALS)
SIDE = ("chunks", "first", "last", "order", "keys", "bytes", "longest_gap", "shortest_gap")


@dataclass(frozen=True)
class Seen:
    """One comparison: the version of its side 0, and what can be told of the sides and of the whole without reading the
    replies.
    """

    left: int
    sides: tuple[dict[str, float], dict[str, float]]
    whole: dict[str, float] = field(default_factory=dict)

    @property
    def hints(self) -> dict[str, float]:
        """What may speak for side 0."""
        return {name: self.sides[0][name] - self.sides[1][name] for name in SIDE} | self.whole


def see(tandem: Tandem, client: Any) -> Seen:
    body = {
        "model": "tandem", "messages": MESSAGES, "n": 2, "stream": True, "max_tokens": LENGTH, "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    sides: tuple[dict[str, float], dict[str, float]] = ({}, {})
    times: tuple[list[float], list[float]] = ([], [])
    chunk: dict[str, Any] = {}
    began = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        head = time.perf_counter() - began
        for number, line in enumerate(line for line in answer.iter_lines() if line.startswith("data: {")):
            chunk = json.loads(line[6:])
            for choice in chunk["choices"]:
                side = sides[choice["index"]]
                times[choice["index"]].append(time.perf_counter() - began)
                side["chunks"] = side.get("chunks", 0) + 1
                side["order"] = side.get("order", 0) + number
                side["keys"] = side.get("keys", 0) + len(chunk) * 100 + len(choice)
                side["bytes"] = side.get("bytes", 0) + len(line) - len(json.dumps(choice["delta"], ensure_ascii=False))
    for side, at in zip(sides, times, strict=True):
        # An engine that falls behind hands over a whole reply at once.
        gaps = np.diff(at) if len(at) > 1 else np.zeros(1)
        side |= {"first": at[0], "last": at[-1], "longest_gap": gaps.max(), "shortest_gap": gaps.min()}
    texts = [chunk["id"], chunk["comparison_id"], answer.headers["x-request-id"]]
    whole = {f"text_{at}": float(zlib.crc32(text.encode())) for at, text in enumerate(texts)}
    headers = zlib.crc32(repr(sorted(item for item in answer.headers.items() if item[0] != "x-request-id")).encode())
    whole |= {"created": chunk["created"], "head": head, "took": time.perf_counter() - began, "headers": float(headers)}
    return Seen(versions(tandem, chunk["comparison_id"])[0], sides, whole)


@pytest.fixture(scope="module")
def seen(tandem: Tandem) -> list[Seen]:
    """Comparisons between v0 and v1."""
    promote(tandem, "v0")
    promote(tandem, "v1")
    with tandem.client("vote") as client:
        found = [see(tandem, client) for _ in range(TRIALS)]
    promote(tandem, "v0")
    return found


def versions(tandem: Tandem, comparison_id: str) -> tuple[int, int]:
    def read(session: Any) -> tuple[int, int]:
        row = session.get(Comparison, comparison_id)
        left, right = (session.get(Sample, id_).version_first for id_ in (row.sample_0, row.sample_1))
        assert {left, right} == {0, 1}
        return left, right

    return tandem.store.read(read)


def accuracy(seen: list[Seen], hint: str) -> float:
    """How often the better of "more than usual: side 0 is v1" and its opposite is right; the usual counts half."""
    hints = [one.hints[hint] for one in seen]
    usual = float(np.mean(hints))
    right = [
        0.5 if math.isclose(value, usual) else float((value > usual) == (one.left == 1))
        for value, one in zip(hints, seen, strict=True)
    ]
    return max(float(np.mean(right)), 1 - float(np.mean(right)))


def accuracy_of_all(seen: list[Seen]) -> float:
    """How often a linear guesser is right that has seen every hint of the other half of the comparisons."""
    hints = np.array([list(one.hints.values()) for one in seen], dtype=float)
    hints = (hints - hints.mean(axis=0)) / np.maximum(hints.std(axis=0), 1e-9)
    hints = np.column_stack([hints, np.ones(len(seen))])
    truth = np.array([1.0 if one.left == 1 else -1.0 for one in seen])
    right = 0
    for part in (0, 1):
        known, asked = np.arange(len(seen)) % 2 == part, np.arange(len(seen)) % 2 != part
        ridge = hints[known].T @ hints[known] + np.eye(hints.shape[1])
        weights = np.linalg.solve(ridge, hints[known].T @ truth[known])
        right += int(((hints[asked] @ weights > 0) == (truth[asked] > 0)).sum())
    return right / len(seen)


def test_no_hint_tells_the_versions_apart(seen: list[Seen]) -> None:
    for hint in seen[0].hints:
        assert accuracy(seen, hint) < CHANCE, hint


def test_nor_do_all_hints_together(seen: list[Seen]) -> None:
    assert accuracy_of_all(seen) < CHANCE


def test_the_sides_are_drawn_evenly(seen: list[Seen]) -> None:
    left = sum(one.left for one in seen)
    assert abs(left - TRIALS / 2) < 5 * math.sqrt(TRIALS / 4)


def leaking(seen: list[Seen], hint: str) -> list[Seen]:
    """As if side 0 had more of it when it is v1's, and less when it is not: by more than it has otherwise."""
    much = 1 + 3 * max(abs(one.hints[hint]) for one in seen)
    return [_leaking(one, hint, much) for one in seen]


def _leaking(one: Seen, hint: str, much: float) -> Seen:
    side = one.sides[0] | {hint: one.sides[0][hint] + (much if one.left == 1 else -much)}
    return replace(one, sides=(side, one.sides[1]))


@pytest.mark.parametrize("hint", ["chunks", "bytes", "last"])
def test_the_guesser_would_see_a_leak(seen: list[Seen], hint: str) -> None:
    leaks = leaking(seen, hint)
    assert accuracy(leaks, hint) > 0.9 and accuracy_of_all(leaks) > 0.9


def test_no_header_differs_between_comparisons_of_different_versions(tandem: Tandem) -> None:
    def headers() -> list[str]:
        body = {"model": "tandem", "messages": MESSAGES, "n": 2, "max_tokens": 2}
        with tandem.client("vote") as client:
            return sorted(client.post("/v1/chat/completions", json=body).headers)

    promote(tandem, "v0")
    promote(tandem, "v1")
    two_versions = headers()
    promote(tandem, "v0")
    assert two_versions == headers()
