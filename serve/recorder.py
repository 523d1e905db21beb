"""Replies on their way into the record: those that end at about the same time share a transaction and its flush."""

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from feedback.errors import RecordUnavailable
from feedback.schema import Comparison, Sample
from feedback.store import samples
from serve.record import Record

LARGEST_BATCH = 64


@dataclass(eq=False)
class Entry:
    """The samples of one chat, and the comparison they make, if they do."""

    rows: list[Sample]
    comparison: Comparison | None
    durable: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Recorder:
    """One transaction at a time; what comes meanwhile makes the next one."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._waiting: list[Entry] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, rows: list[Sample], comparison: Comparison | None = None) -> None:
        """Durable when this returns. Raises whatever kept them from being written."""
        entry = Entry(rows, comparison)
        self._waiting.append(entry)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="recorder")
        # A caller that goes away takes this future along, and leaves its replies to be written all the same.
        await entry.durable

    async def stop(self) -> None:
        """Returns when everything that was handed in is written."""
        if self._writer is not None:
            await self._writer

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
            try:
                await self._record.write(_add, batch)
            except RecordUnavailable as error:
                for entry in batch:
                    _settle(entry, error)
            except Exception as error:  # noqa: BLE001 - raised again where each is waited for
                await self._write_apart(batch, error)
            else:
                for entry in batch:
                    _settle(entry, None)

    async def _write_apart(self, batch: list[Entry], error: Exception) -> None:
        """One that cannot be written must not take the others with it."""
        if len(batch) == 1:
            _settle(batch[0], error)
            return
        for entry in batch:
            try:
                await self._record.write(_add, [entry])
            except Exception as own:  # noqa: BLE001 - the same
                _settle(entry, own)
            else:
                _settle(entry, None)


def _settle(entry: Entry, error: Exception | None) -> None:
    if entry.durable.done():
        return
    if error is None:
        entry.durable.set_result(None)
    else:
        entry.durable.set_exception(error)


def _add(session: Session, batch: list[Entry]) -> None:
    samples.add(session, [row for entry in batch if entry.comparison is None for row in entry.rows])
    for entry in batch:
        if entry.comparison is not None:
            samples.add_comparison(session, entry.comparison, (entry.rows[0], entry.rows[1]))
