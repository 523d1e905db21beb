"""One process at a time changes what the engines hold, by a lease in the record; its epoch fences a process that lost
it in mid-change and does not know.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from feedback.errors import Conflict, LeaseLost
from feedback.ids import new_id
from feedback.store import leases
from serve.record import Record

log = logging.getLogger(__name__)

ENGINES = "engines"
TTL_S = 20.0
RENEW_INTERVAL_S = 5.0


class Fence:
    """The lease on the engines of a record."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._holder = new_id("api")

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[int]:
        """Hold the lease; gives its epoch, for the transaction that makes the change count.

        Raises Conflict while another process holds it.
        """
        epoch = await self._record.write(leases.acquire, ENGINES, self._holder, TTL_S)
        if epoch is None:
            raise Conflict("another process is changing what the engines hold; wait until it has ended")
        renewing = asyncio.create_task(self._renew(epoch))
        try:
            yield epoch
        finally:
            renewing.cancel()
            await self._record.write(leases.release, ENGINES, epoch)

    async def _renew(self, epoch: int) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            try:
                await self._record.write(leases.renew, ENGINES, epoch, TTL_S)
            except LeaseLost as error:
                log.warning("%s", error)
                return
