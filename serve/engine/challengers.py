"""The challenger in the engines of this process: loaded when it is set here, and in passing when it was set through
another process; when it is set no more, the engine that held it takes back what it would hold without one.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from sqlalchemy.orm import Session

from feedback.errors import Conflict, TandemError
from feedback.schema import version_name
from feedback.store import policies, traffic
from feedback.store.traffic import Shares
from serve import background
from serve.engine.bell import Bell
from serve.engine.changing import Changing
from serve.engine.flipping import Flipping
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.engine.slot import Slot
from serve.engine.supervision import Supervision
from serve.record import RECORD_ERRORS, Record

log = logging.getLogger(__name__)

# What could not be loaded here is tried again after this time.
AGAIN_S = 30.0


class Challengers:
    """`put` sets the shares for all processes; `look` has this one do as they say."""

    def __init__(
        self,
        pool: Pool,
        flipping: Flipping,
        record: Record,
        own: Presence,
        supervision: Supervision,
        bell: Bell,
        changing: Changing,
    ) -> None:
        self._pool = pool
        self._flipping = flipping
        self._record = record
        self._own = own
        self._supervision = supervision
        self._bell = bell
        self._changing = changing
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0
        # A challenger for which there is no engine here while this serves.
        self._no_room: tuple[int, int | None] | None = None

    async def put(self, shares: Shares, *, actor: str, reason: str = "") -> None:
        """Have an engine here hold the challenger, beside what serves, then set the shares for all processes.

        Raises NotFound, PolicyInvalid, EngineUnavailable, or Conflict while a promotion is under way, for what serves,
        or where there is one engine only.
        """
        if shares.challenger is None:
            await self._set(shares, actor, reason)
            return
        async with self._changing.asked():
            if shares.challenger == self._pool.serving:
                raise Conflict(
                    f"{version_name(shares.challenger)} serves: it cannot challenge itself", param="challenger"
                )
            policy = await self._flipping.fetch(shares.challenger)
            if self._flipping.needs_the_only_engine(policy):
                raise Conflict(
                    "there is one engine only, and it serves; a challenger needs another", param="challenger"
                )
            await self._flipping.have_held(policy)
            # Before the lease goes: a version that nobody set is not left in an engine.
            await self._set(shares, actor, reason)
        with contextlib.suppress(*RECORD_ERRORS):
            await self._own.renew()

    async def _set(self, shares: Shares, actor: str, reason: str) -> None:
        self._pool.shares = await self._record.write(traffic.put, shares, actor=actor, reason=reason)
        self._bell.ring()

    def look(self) -> None:
        """Start what is to be done here, unless it is being done; it gives way to a promotion."""
        running = self._task is not None and not self._task.done()
        if running or self._changing.busy or time.monotonic() < self._not_before:
            return
        if not all(slot.state == "ready" for slot in self._pool.slots):
            return
        challenger = self._pool.shares.challenger
        if challenger is None or self._pool.holders(challenger):
            if self._left_over():
                self._task = background.start(self._do(None), "giving back the engine of a challenger")
        elif self._no_room != (challenger, self._pool.serving):
            self._task = background.start(self._do(challenger), f"loading the challenger {version_name(challenger)}")

    def _left_over(self) -> list[Slot]:
        """Engines that hold a version which was never promoted and is no challenger any more."""
        kept = {self._pool.serving, self._pool.shares.challenger, self._pool.prepared}
        left = self._pool.candidates - kept
        return [slot for slot in self._pool.slots if slot.state == "ready" and slot.version in left]

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _do(self, challenger: int | None) -> None:
        try:
            await (self._give_back() if challenger is None else self._follow(challenger))
        except Conflict:
            # Something else is being changed: at the next look.
            return
        except (TandemError, *RECORD_ERRORS) as error:
            self._not_before = time.monotonic() + AGAIN_S
            # A database's message may quote what was to be written.
            said = error.message if isinstance(error, TandemError) else type(error).__name__
            what = "the challenger" if challenger is None else version_name(challenger)
            log.warning("the engines could not be brought to what the shares say of %s: %s", what, said)

    async def _follow(self, challenger: int) -> None:
        # The longest part, and nobody has to wait for it.
        policy = await self._flipping.fetch(challenger)
        if self._flipping.needs_the_only_engine(policy):
            self._no_room = challenger, self._pool.serving
            log.warning("%s gets no share here: there is one engine only, and it serves", version_name(challenger))
            return
        async with self._in_passing() as (shares, _):
            # Another process may drive the same engines, and have done it.
            await self._supervision.look_for(challenger)
            if shares.challenger != challenger or self._pool.holders(challenger):
                return
            await self._flipping.have_held(policy)
        log.info("the challenger %s is held here too", version_name(challenger))
        await self._own.renew()

    async def _give_back(self) -> None:
        policy = await self._flipping.fetch((await self._record.read(_standing))[1])
        async with self._in_passing() as (shares, beside):
            self._pool.shares = shares
            for slot in self._left_over() if beside == policy.version else []:
                assert slot.version is not None
                names = version_name(beside), version_name(slot.version)
                await self._flipping.give(slot, policy)
                log.info("engine %d holds %s again, since %s is no challenger any more", slot.index, *names)
        await self._own.renew()

    @contextlib.asynccontextmanager
    async def _in_passing(self) -> AsyncIterator[tuple[Shares, int]]:
        """The engines are this process's to change; gives what the record says by now. Raises Conflict."""
        async with self._changing.in_passing():
            shares, beside, serving = await self._record.read(_standing)
            if serving != self._pool.serving:
                raise Conflict("what serves was changed, and is not followed here yet")
            yield shares, beside


def _standing(session: Session) -> tuple[Shares, int, int]:
    """The shares, what an engine holds beside what serves where there is no challenger, and what serves."""
    serving = policies.serving(session)
    if serving is None:
        raise Conflict("nothing serves")
    beside = policies.rollback_target(session)
    return traffic.get(session), serving.version if beside is None else beside, serving.version
