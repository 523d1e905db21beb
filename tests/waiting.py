"""Waiting in a test for what another process, thread or task brings about."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_for(
    condition: Callable[[], object],
    timeout_s: float,
    what: str,
    *,
    by: "subprocess.Popen[Any] | None" = None,
    pause_s: float = 0.05,
) -> float:
    """Returns the seconds that it took. `by` is the process that brings it about: once that has ended, nothing will."""
    began = time.monotonic()
    while not condition():
        assert by is None or by.poll() is None, f"the process ended with {by.returncode}, before {what}"
        assert time.monotonic() - began < timeout_s, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(pause_s)
    return time.monotonic() - began


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """While the tasks of this loop go on."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
