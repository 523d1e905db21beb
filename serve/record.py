"""The store from the event loop: each call runs in a thread, so that no request waits for another one's disk.

Where the database has one writer at a time, writes that come while one is under way are handed over together: a thread
and a commit for each of them cost more than what they write.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from feedback.errors import RecordUnavailable
from feedback.store import Store, standing
from feedback.store.standing import Standing

P = ParamSpec("P")
R = TypeVar("R")

# What comes of a record that is away, or fails in its own ways. Its words may quote what was to be written.
RECORD_ERRORS = (SQLAlchemyError, RecordUnavailable)

THREADS = 8
SEARCHES = 2
# A database that stands still, whose machine lives on, says nothing for ever. Nobody who asks waits longer for it; what
# is written may be done all the same, so that is waited for.
PATIENCE_S = 30.0


class Record:
    """`await record.write(votes.put, ...)` and `await record.read(votes.get, ...)`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="record")
        # Of their own: what reads the whole record must not take the threads that chats and votes are recorded by.
        self._searching = ThreadPoolExecutor(SEARCHES, thread_name_prefix="search")
        self._waiting: list[tuple[Callable[[Session], Any], asyncio.Future[Any]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def write(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One transaction; durable when this returns, undone when it raises. It is done even when the caller leaves."""
        if not self.store.has_one_writer:
            return await self._run(partial(self.store.write, operation, *args, **kwargs))
        return await self._write_with_others(operation, *args, **kwargs)

    async def write_once(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`write` for an operation of one statement that does no harm when it is done twice."""
        if not self.store.has_one_writer:
            return await self._run(partial(self.store.write_once, operation, *args, **kwargs))
        return await self._write_with_others(operation, *args, **kwargs)

    async def _write_with_others(
        self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        ended: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((lambda session: operation(session, *args, **kwargs), ended))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="record")
        return await ended

    async def read(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One consistent snapshot. Raises RecordUnavailable."""
        return await self._ask(partial(self.store.read, operation, *args, **kwargs))

    async def read_once(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`read` for an operation of one statement. Raises RecordUnavailable."""
        return await self._ask(partial(self.store.read_once, operation, *args, **kwargs))

    async def search(self, operation: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`read` for what may go through the whole record: two at once, in turn, and nothing else waits for them."""
        call = partial(self.store.read, operation, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._searching, call)

    async def standing(self) -> Standing:
        """What serves and who is to be given something else, as `feedback.store.standing` reads it."""
        return await self._run(partial(standing.read, self.store))

    async def ping(self) -> None:
        """Raises when the database does not answer, or only reads."""
        await self._ask(self.store.ping)

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                writes = await self._run(partial(self.store.write_together, [operation for operation, _ in batch]))
            except Exception as error:  # noqa: BLE001 - raised again where each is waited for
                for _, ended in batch:
                    if not ended.done():
                        ended.set_exception(error)
                continue
            for write, (_, ended) in zip(writes, batch, strict=True):
                if ended.done():
                    continue
                if write.error is None:
                    ended.set_result(write.result)
                else:
                    ended.set_exception(write.error)

    async def _ask(self, call: Callable[[], R]) -> R:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._run(call)
        except TimeoutError:
            raise RecordUnavailable("the record's database does not answer; send the request again later") from None

    async def _run(self, call: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def close(self) -> None:
        self._threads.shutdown()
        self._searching.shutdown(cancel_futures=True)
        self.store.close()
