"""The clock of a training benchmark, ours and the peers': CPU-seconds of this process, or on a GPU, which is its own,
seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Clock:
    """Counts from `start` to `read`, less what happened while it was stopped; and the GPU's peak memory meanwhile."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"
        self._from = 0.0

    def _now(self) -> float:
        if not self._on_gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def start(self) -> None:
        if self._on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self._from = self._now()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        before = self._now()
        yield
        self._from += self._now() - before

    def read(self) -> dict[str, Any]:
        """`seconds`, and `peak_gb` of the GPU's memory that tensors took."""
        peak = torch.cuda.max_memory_allocated() / 1e9 if self._on_gpu else None
        return {"seconds": self._now() - self._from, "peak_gb": peak}
