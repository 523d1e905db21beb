"""This process's lease on serving, in the record: while it is renewed nothing is promoted without this process. When it
ran out, what serves is given to nobody until the record has said that it still serves.
"""

import asyncio
import contextlib
import logging
import socket
import time
from pathlib import Path

from sqlalchemy.orm import Session

from feedback.ids import new_id
from feedback.store import leases, presence
from feedback.store.presence import Here
from serve import background
from serve.engine.life import Life
from serve.engine.pool import Pool
from serve.record import RECORD_ERRORS, Record

log = logging.getLogger(__name__)

RENEW_INTERVAL_S = 3.0


class Presence:
    """`others` is how many other API processes served when the record was asked last."""

    def __init__(self, record: Record, pool: Pool, engines: str, run_dir: Path) -> None:
        self.id = new_id("api")
        self.life = Life(run_dir, self.id)
        self.engines = engines
        self.others = 0
        self._record = record
        self._pool = pool
        self._has_entered = False
        self._one_at_a_time = asyncio.Lock()
        pool.open_until = 0.0

    async def end_leases_of_the_dead(self) -> None:
        """Nobody needs to wait for processes of this machine that were killed."""
        for process_id in await asyncio.to_thread(self.life.ended):
            await self._record.write(_let_others_in, process_id)
            self.life.forget(process_id)

    async def run(self) -> None:
        """Renew again and again, and look who was killed meanwhile."""
        while True:
            await background.until_next_round(RENEW_INTERVAL_S)
            try:
                await self.renew()
                await self.end_leases_of_the_dead()
            except (*RECORD_ERRORS, OSError) as error:
                # An OSError is of looking, as with too many files open: without this task nothing would serve for long.
                log.warning("the leases of this process, or of the dead, are as they were (%s)", type(error).__name__)

    async def enter(self) -> None:
        """Begin to give what serves, if what serves here is what the record says."""
        async with self._one_at_a_time:
            began = time.monotonic()
            others = await self._record.write(presence.enter, self._here())
            if others is not None:
                self._has_entered, self.others = True, others
                self._pool.open_until = began + presence.TTL_S
                self._pool.admission.serve_waiting()

    async def renew(self) -> None:
        """Say what serves here and what the engines hold. A process whose engines are all away leaves."""
        async with self._one_at_a_time:
            if not self._has_entered:
                return
            if all(slot.state == "down" for slot in self._pool.slots):
                self.lapse()
                await self._record.write(presence.leave, self.id)
                return
            began = time.monotonic()
            others = await self._record.write_once(presence.renew, self._here())
            if others is None:
                log.warning("the lease on serving ran out: nobody is given what serves before the record confirms it")
                self.lapse()
                return
            self.others = others
            if time.monotonic() - began < presence.GRACE_S and self._has_entered:
                self._pool.open_until = began + presence.TTL_S

    def lapse(self) -> None:
        """Something else may serve by now: it has to be looked up."""
        self._has_entered = False
        self._pool.open_until = 0.0
        self._pool.stale.set()

    async def stop(self) -> None:
        """Nobody needs to wait for this process any more, even where it has not put back all that it had changed."""
        with contextlib.suppress(*RECORD_ERRORS):
            async with self._one_at_a_time:
                self.lapse()
                await self._record.write(_let_others_in, self.id)
                self.life.end()

    def _here(self) -> Here:
        assert self._pool.serving is not None
        held = [sorted(slot.versions) if slot.state == "ready" else [] for slot in self._pool.slots]
        return Here(self.id, socket.gethostname(), self.engines, self._pool.serving, held)


def _let_others_in(session: Session, process_id: str) -> None:
    presence.leave(session, process_id)
    leases.revoke_those_of(session, process_id)
