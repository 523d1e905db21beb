"""One process at a time changes what the engines hold, or starts one of them, by leases in the record; an epoch fences
a process that lost its lease in mid-change and does not know.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from feedback.errors import Conflict, LeaseLost
from feedback.ids import new_id
from feedback.store import leases
from serve.record import RECORD_ERRORS, Record

log = logging.getLogger(__name__)

TTL_S = 20.0
RENEW_INTERVAL_S = 5.0
ASKED = "asked"
PASSING_INTERVAL_S = 0.1


class Fence:
    """A lease of this record: on what engines hold, or (`engine-0@...`) on starting one of them.

    Who holds it in passing does what nobody waits for: whoever else wants it waits until that has ended. The holder's
    name ends with its process's, so that nobody waits for one that is known to be gone.
    """

    def __init__(
        self, record: Record, process_id: str, name: str = leases.ENGINES, *, in_passing: bool = False
    ) -> None:
        self._record = record
        self.name = name
        self._in_passing = in_passing
        self._holder = f"{new_id(leases.PASSING if in_passing else ASKED)}@{process_id}"

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[int]:
        """Hold the lease; gives its epoch, for the transaction that makes the change count.

        Raises Conflict while another process holds it.
        """
        epoch = await self._record.write(leases.acquire, self.name, self._holder, TTL_S)
        while epoch is None:
            holder = await self._record.read(leases.holder, self.name)
            if self._in_passing or (holder is not None and not holder.startswith(leases.PASSING)):
                raise Conflict("another process is changing what the engines hold; wait until it has ended")
            await asyncio.sleep(PASSING_INTERVAL_S)
            epoch = await self._record.write(leases.acquire, self.name, self._holder, TTL_S)
        renewing = asyncio.create_task(self._renew(epoch))
        try:
            yield epoch
        finally:
            renewing.cancel()
            await self._let_go(epoch)

    async def _let_go(self, epoch: int) -> None:
        try:
            await self._record.write(leases.release, self.name, epoch)
        except RECORD_ERRORS as error:
            # What was done under it is done, and it runs out by itself.
            log.warning("the lease on %s was not given back (%s)", self.name, type(error).__name__)

    async def _renew(self, epoch: int) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL_S)
            try:
                await self._record.write(leases.renew, self.name, epoch, TTL_S)
            except RECORD_ERRORS as error:
                # It may be back before the lease has run out.
                log.warning("the lease on %s was not renewed (%s)", self.name, type(error).__name__)
            except LeaseLost as error:
                log.warning("%s", error)
                return
