"""Tasks that run beside the requests: one that ends by an error says so, instead of being missed in silence. What they
do again and again they do at the same moments, so that an idle process wakes up once for all of it.
"""

import asyncio
import logging
import math
import traceback
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


def start(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run `work` until it ends or is cancelled. The caller keeps the task."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    return task


def next_round(interval_s: float) -> float:
    """The loop's time at the next whole multiple of `interval_s`: at most so far away."""
    return interval_s * (math.floor(asyncio.get_running_loop().time() / interval_s) + 1)


async def until_next_round(interval_s: float) -> None:
    """Sleep until then."""
    await asyncio.sleep(next_round(interval_s) - asyncio.get_running_loop().time())


def tell(what: str, error: BaseException) -> None:
    """Log that `what` has failed: where, and not the error's own words, which may quote what people wrote."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s: %s at %s:%d", what, type(error).__name__, place.filename, place.lineno)


def _tell(task: "asyncio.Task[None]") -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        tell(f"{task.get_name()} has ended", error)
