"""Replies on their way into the record: those that end at about the same time share a transaction and its flush, and
those that end while it is away are kept until it is back.
"""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field

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
    """One transaction at a time; what comes meanwhile makes the next one.

    Whoever waits for replies that the record is away for is told so, and they are recorded as failed, without the
    comparison, as soon as it is back: what the client saw of them was written all the same.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._waiting: list[Entry] = []
        self._writer: asyncio.Task[None] | None = None
        self._kept: deque[tuple[list[Sample], int]] = deque()
        self._keeper: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def add(self, rows: list[Sample], comparison: Comparison | None = None) -> None:
        """Durable when this returns. Raises whatever kept them from being written."""
        entry = Entry(rows, comparison)
        self._waiting.append(entry)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="recorder")
        # A caller that goes away takes this future along, and leaves its replies to be written all the same.
        await entry.durable

    async def stop(self) -> None:
        """Returns when everything that was handed in is written, unless the record is away."""
        if self._writer is not None:
            await self._writer
        self._ending.set()
        if self._keeper is not None:
            await self._keeper

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
            try:
                await self._record.write(_add, batch)
            except RecordUnavailable as error:
                for entry in batch:
                    self._settle(entry, error)
            except Exception as error:  # noqa: BLE001 - raised again where each is waited for
                await self._write_apart(batch, error)
            else:
                for entry in batch:
                    self._settle(entry, None)

    async def _write_apart(self, batch: list[Entry], error: Exception) -> None:
        """One that cannot be written must not take the others with it."""
        if len(batch) == 1:
            self._settle(batch[0], error)
            return
        for entry in batch:
            try:
                await self._record.write(_add, [entry])
            except Exception as own:  # noqa: BLE001 - the same
                self._settle(entry, own)
            else:
                self._settle(entry, None)

    def _settle(self, entry: Entry, error: Exception | None) -> None:
        if isinstance(error, RecordUnavailable):
            self._keep(entry.rows)
        if entry.durable.done():
            return
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
            await self._record.write(samples.add_missing, rows)
        except RecordUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it will not be better the next time
            background.tell("a reply could not be recorded", error)


def _add(session: Session, batch: list[Entry]) -> None:
    samples.add(session, [row for entry in batch if entry.comparison is None for row in entry.rows])
    for entry in batch:
        if entry.comparison is not None:
            samples.add_comparison(session, entry.comparison, (entry.rows[0], entry.rows[1]))
