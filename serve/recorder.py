"""Replies on their way into the record: those that end at about the same time share a transaction and its flush, and
those that end while it is away are kept until it is back.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue

import orjson
from sqlalchemy.orm import Session

from feedback.errors import RecordUnavailable
from feedback.schema import Comparison, Sample
from feedback.store import samples
from serve import background
from serve.chat.reply import COMPLETE, FAILED
from serve.record import Record

log = logging.getLogger(__name__)

LARGEST_BATCH = 64
AGAIN_S = 1.0
MOST_KEPT_BYTES = 64_000_000


@dataclass(eq=False)
class Entry:
    """The samples of one chat, and the comparison they make, if they do."""

    rows: list[Sample]
    comparison: Comparison | None
    durable: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Recorder:
    """One transaction at a time, in a thread of its own; what comes meanwhile makes the next one.

    Whoever waits for replies that the record is away for is told so, and they are recorded as failed, without the
    comparison, as soon as it is back: what the client saw of them was written all the same.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        # None says that nothing more comes.
        self._waiting: SimpleQueue[Entry | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._kept: deque[tuple[list[Sample], int]] = deque()
        self._keeper: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def add(self, rows: list[Sample], comparison: Comparison | None = None) -> None:
        """Durable when this returns. Raises whatever kept them from being written."""
        entry = Entry(rows, comparison)
        if self._writer is None:
            self._writer = self._begin()
        self._waiting.put(entry)
        # A caller that goes away takes this future along, and leaves its replies to be written all the same.
        await entry.durable

    async def stop(self) -> None:
        """Returns when everything that was handed in is written, unless the record is away."""
        while self._writer is not None:
            self._waiting.put(None)
            await asyncio.to_thread(self._writer.join)
            # What came while it wrote the last of them is written by another one.
            self._writer = None if self._waiting.empty() else self._begin()
        self._ending.set()
        if self._keeper is not None:
            await self._keeper

    def _begin(self) -> threading.Thread:
        writer = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        writer.start()
        return writer

    def _write_all(self) -> None:
        is_over = False
        while not is_over:
            taken = [self._waiting.get()]
            while len(taken) < LARGEST_BATCH and not self._waiting.empty():
                taken.append(self._waiting.get())
            batch = [entry for entry in taken if entry is not None]
            is_over = len(batch) < len(taken)
            if batch:
                errors = self._write(batch)
                batch[0].durable.get_loop().call_soon_threadsafe(self._settle, batch, errors)

    def _write(self, batch: list[Entry]) -> list[Exception | None]:
        """What kept each of them from being written."""
        try:
            self._record.store.write_swiftly(partial(_add, batch), partial(_add_by_driver, batch))
        except RecordUnavailable as error:
            return [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - raised again where each is waited for
            # One that cannot be written must not take the others with it.
            return [error] if len(batch) == 1 else [self._write([entry])[0] for entry in batch]
        return [None] * len(batch)

    def _settle(self, batch: list[Entry], errors: list[Exception | None]) -> None:
        for entry, error in zip(batch, errors, strict=True):
            if isinstance(error, RecordUnavailable):
                self._keep(entry.rows)
            if entry.durable.done():
                continue
            if error is None:
                entry.durable.set_result(None)
            else:
                entry.durable.set_exception(error)

    def _keep(self, rows: list[Sample]) -> None:
        for row in rows:
            if row.status == COMPLETE:
                row.status = FAILED
        size = sum(len(orjson.dumps([row.messages, row.text, row.token_ids, row.logprobs])) for row in rows)
        if size + sum(kept for _, kept in self._kept) > MOST_KEPT_BYTES:
            log.error("a reply is lost: the record is away, and there is no room to keep more")
            return
        self._kept.append((rows, size))
        if self._keeper is None or self._keeper.done():
            self._keeper = background.start(self._write_kept(), "recording what was kept")

    async def _write_kept(self) -> None:
        """Again and again until all is written; when the process ends, once more."""
        while self._kept:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await self._ending.wait()
            try:
                while self._kept:
                    await self._write_once_more(self._kept[0][0])
                    self._kept.popleft()
            except RecordUnavailable:
                if self._ending.is_set():
                    log.error(
                        "replies to %d chats are lost: the record is away, and this process ends", len(self._kept)
                    )
                    return

    async def _write_once_more(self, rows: list[Sample]) -> None:
        """Raises RecordUnavailable."""
        try:
            await self._record.write(samples.add, rows)
        except RecordUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it will not be better the next time
            background.tell("a reply could not be recorded", error)


def _add(batch: list[Entry], session: Session) -> None:
    samples.add(session, *_rows(batch))


def _add_by_driver(batch: list[Entry], driver: sqlite3.Connection) -> None:
    samples.add_by_driver(driver, *_rows(batch))


def _rows(batch: list[Entry]) -> tuple[list[Sample], list[Comparison]]:
    comparisons = [entry.comparison for entry in batch if entry.comparison is not None]
    return [row for entry in batch for row in entry.rows], comparisons
