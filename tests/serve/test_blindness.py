"""Nothing that a client sees of a comparison tells its versions apart: a guesser with everything at hand does no better
than chance, while the same guesser sees through a comparison that leaks.
"""

import json
import math
import time
from typing import Any

import pytest

from feedback.schema import Comparison, Sample
from tests.serve.conftest import Tandem
from tests.serve.test_swap import promote

pytestmark = pytest.mark.engine

TRIALS = 80
MESSAGES = [{"role": "user", "content": "Name three colors."}]
# What the policies write differs, of course, and the client is to judge just that: everything else is looked at.
LENGTH = 12


def see(tandem: Tandem, client: Any) -> tuple[str, list[dict[str, float]]]:
    """One comparison: its id, and for each side what can be told of it without reading the reply."""
    body = {
        "model": "tandem", "messages": MESSAGES, "n": 2, "stream": True, "max_tokens": LENGTH, "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    sides: list[dict[str, float]] = [{"chunks": 0, "first": 0, "last": 0, "order": 0, "keys": 0} for _ in range(2)]
    comparison_id = ""
    began = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for number, line in enumerate(line for line in answer.iter_lines() if line.startswith("data: {")):
            chunk, at = json.loads(line[6:]), time.perf_counter() - began
            comparison_id = chunk["comparison_id"]
            for choice in chunk["choices"]:
                side = sides[choice["index"]]
                side["first"] = side["first"] or at
                side["last"] = at
                side["chunks"] += 1
                side["order"] += number
                side["keys"] += len(chunk) * 100 + len(choice)
    return comparison_id, sides


@pytest.fixture(scope="module")
def seen(tandem: Tandem) -> list[tuple[tuple[int, int], list[dict[str, float]]]]:
    """Comparisons between v0 and v1, each with the versions of its sides and what was seen of them."""
    promote(tandem, "v0")
    promote(tandem, "v1")
    found = []
    with tandem.client("vote") as client:
        for _ in range(TRIALS):
            comparison_id, sides = see(tandem, client)
            found.append((versions(tandem, comparison_id), sides))
    promote(tandem, "v0")
    return found


def versions(tandem: Tandem, comparison_id: str) -> tuple[int, int]:
    def read(session: Any) -> tuple[int, int]:
        row = session.get(Comparison, comparison_id)
        left, right = (session.get(Sample, id_).version_first for id_ in (row.sample_0, row.sample_1))
        return left, right

    return tandem.store.read(read)


def accuracy(seen: list[tuple[tuple[int, int], list[dict[str, float]]]], feature: str) -> float:
    """How often the better of "the side with more of it is v1" and its opposite is right; ties count half."""
    score = 0.0
    for (left, right), sides in seen:
        assert {left, right} == {0, 1}
        more = sides[0][feature] - sides[1][feature]
        score += 0.5 if more == 0 else float((more > 0) == (left == 1))
    return max(score, len(seen) - score) / len(seen)


def test_no_feature_tells_the_versions_apart(seen: list[tuple[tuple[int, int], list[dict[str, float]]]]) -> None:
    # Four standard deviations of a fair coin, for each feature.
    bound = 0.5 + 4 * math.sqrt(0.25 / TRIALS)
    for feature in ("chunks", "first", "last", "order", "keys"):
        assert accuracy(seen, feature) < bound, feature


def test_the_sides_are_drawn_evenly(seen: list[tuple[tuple[int, int], list[dict[str, float]]]]) -> None:
    left = sum(pair[0] == 1 for pair, _ in seen)
    assert abs(left - TRIALS / 2) < 4 * math.sqrt(TRIALS / 4)


def test_the_guesser_would_see_a_leak(seen: list[tuple[tuple[int, int], list[dict[str, float]]]]) -> None:
    leaky = [
        (pair, [side | {"chunks": side["chunks"] + version} for side, version in zip(sides, pair, strict=True)])
        for pair, sides in seen
    ]
    assert accuracy(leaky, "chunks") > 0.9


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
