"""The store from the event loop: each call runs in a thread, so that no request waits for another one's disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from feedback.store import Store

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 8


class Record:
    """`await record.write(votes.put, ...)` and `await record.read(votes.get, ...)`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="record")

    async def write(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One transaction; durable when this returns, undone when it raises."""
        return await self._run(partial(self.store.write, operation, *args, **kwargs))

    async def read(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One consistent snapshot."""
        return await self._run(partial(self.store.read, operation, *args, **kwargs))

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        await self._run(self.store.ping)

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        self._threads.shutdown()
        self.store.close()
