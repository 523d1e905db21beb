"""Taking part in a promotion that another API process leads: prepared when that one asks, flipped when the record says
that it was made, put back when it was not.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from sqlalchemy.orm import Session

from feedback.errors import Conflict, TandemError
from feedback.schema import version_name
from feedback.store import policies, presence
from feedback.store.presence import Asked
from serve.engine.changing import Changing
from serve.engine.fence import Fence
from serve.engine.flipping import Flipping, Loaded
from serve.engine.policy_folders import PolicyFolder
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.engine.supervision import Supervision
from serve.record import RECORD_ERRORS, Record

log = logging.getLogger(__name__)

POLL_S = 0.03
# A record that is silent for longer may say by now that another version serves.
DOUBT_S = 2.0
AFTER_SILENCE_S = 1.0


@dataclass
class Part:
    """How far this process is. Of several that drive the same engines one loads, and the others look on."""

    asked: Asked
    loads: bool
    done: str | None = None
    policy: PolicyFolder | None = None
    loaded: Loaded | None = None
    failed: bool = False


class Participant:
    """One promotion at a time."""

    def __init__(
        self,
        pool: Pool,
        flipping: Flipping,
        record: Record,
        own: Presence,
        supervision: Supervision,
        changing: Changing,
    ) -> None:
        self._changing = changing
        self._pool = pool
        self._flipping = flipping
        self._record = record
        self._own = own
        self._supervision = supervision
        self._fence = Fence(record, own.id, f"engines@{own.engines}")

    async def take_part(self, asked: Asked) -> None:
        """Returns when the promotion was made, or is not going to be."""
        async with self._changing.taking_part(), contextlib.AsyncExitStack() as holding:
            log.info("%s is prepared here, as another process asked", version_name(asked.version))
            self._pool.prepared = asked.version
            try:
                await self._follow(Part(asked, await self._is_to_load(asked, holding)))
            finally:
                self._pool.prepared = None
                self._pool.admission.serve_waiting()

    async def _is_to_load(self, asked: Asked, holding: contextlib.AsyncExitStack) -> bool:
        if asked.engines == self._own.engines:
            return False
        try:
            await holding.enter_async_context(self._fence.held())
        except Conflict:
            return False
        return True

    async def _follow(self, part: Part) -> None:
        while True:
            standing = await self._look(part)
            if standing is None:
                await asyncio.sleep(AFTER_SILENCE_S)
                continue
            asked, serving = standing
            if serving == part.asked.version:
                await self._serve(part)
                return
            if asked is None or asked.epoch != part.asked.epoch:
                await self._flipping.put_back(part.loaded)
                log.info("%s was not promoted", version_name(part.asked.version))
                return
            if part.done != asked.stage:
                await self._prepare(part, asked.stage)
            await asyncio.sleep(POLL_S)

    async def _look(self, part: Part) -> tuple[Asked | None, int | None] | None:
        """What is asked for and what serves; None when the record is silent."""
        try:
            async with asyncio.timeout(DOUBT_S):
                return await self._record.read(_stand)
        except (TimeoutError, *RECORD_ERRORS):
            if part.done == presence.STAGES[-1]:
                self._own.lapse()
            return None

    async def _prepare(self, part: Part, stage: str) -> None:
        error = None
        try:
            if part.loads:
                await self._load(part, stage)
            elif not await self._sees(part, stage):
                return
        except (TandemError, OSError) as failure:
            error = failure.message if isinstance(failure, TandemError) else failure.strerror or type(failure).__name__
            log.warning("%s could not be prepared here: %s", version_name(part.asked.version), error)
            part.failed = True
        part.done = stage
        with contextlib.suppress(*RECORD_ERRORS):
            await self._record.write(presence.answer, self._own.id, part.asked.epoch, stage, error)

    async def _load(self, part: Part, stage: str) -> None:
        if part.policy is None:
            part.policy = await self._flipping.prepare(part.asked.version)
        if stage == presence.STAGES[-1]:
            part.loaded = await self._flipping.load(part.policy)

    async def _sees(self, part: Part, stage: str) -> bool:
        """Whether the one that loads has come as far as `stage`."""
        if stage == presence.STAGES[-1] and not self._pool.holders(part.asked.version):
            await self._supervision.look_for(part.asked.version)
            return bool(self._pool.holders(part.asked.version))
        return True

    async def _serve(self, part: Part) -> None:
        """Where it was not prepared in time, this process was left out, and catches up as after a start."""
        if part.failed or part.done != presence.STAGES[-1]:
            return
        if part.loaded is None:
            self._pool.serving = part.asked.version
        else:
            self._flipping.flip(part.loaded)
            await self._flipping.spread(part.loaded.policy)
        with contextlib.suppress(*RECORD_ERRORS):
            await self._own.renew()
        log.info("%s serves here too", version_name(part.asked.version))


def _stand(session: Session) -> tuple[Asked | None, int | None]:
    serving = policies.serving(session)
    return presence.asked_for(session), None if serving is None else serving.version
