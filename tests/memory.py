"""How much memory something takes."""

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def traced(call: Callable[[], R]) -> tuple[R, int]:
    """What it answers, and the most bytes that Python held for it at any time."""
    tracemalloc.start()
    try:
        answer = call()
        return answer, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
