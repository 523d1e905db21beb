"""Tasks that run beside the requests: one that ends by an error says so, instead of being missed in silence."""

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


def start(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """Run `work` until it ends or is cancelled. The caller keeps the task."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    return task


def _tell(task: "asyncio.Task[None]") -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s ended by %s at %s:%d", task.get_name(), type(error).__name__, place.filename, place.lineno)
