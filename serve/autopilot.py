"""Carries out promotion by rule: one step at a time, by one process of a record at a time, each step in the audit.

It runs here and not in the scheduler because only an API process reaches the engines.
"""

import asyncio
import logging

from sqlalchemy.orm import Session

from feedback import automatic
from feedback.automatic import Step
from feedback.errors import (
    Conflict,
    EngineUnavailable,
    LeaseLost,
    RecordUnavailable,
    StorageUnavailable,
    TandemError,
)
from feedback.ids import new_id
from feedback.operating_settings import AutomaticSettings, GateSettings
from feedback.schema import version_name
from feedback.store import audit, leases
from feedback.store.traffic import Shares
from serve import background
from serve.engine.challengers import Challengers
from serve.engine.swap import Change, Promoter
from serve.record import Record

log = logging.getLogger(__name__)

# None of these says anything against a version.
WAITS = (Conflict, EngineUnavailable, LeaseLost, RecordUnavailable, StorageUnavailable)


class Autopilot:
    """`look` does what is due now."""

    def __init__(
        self,
        settings: AutomaticSettings,
        gate: GateSettings,
        record: Record,
        promoter: Promoter,
        challengers: Challengers,
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._record = record
        self._promoter = promoter
        self._challengers = challengers
        self._holder = new_id("api")

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(self._settings.check_interval_s)
            try:
                await self.look()
            except WAITS as error:
                log.info("promotion by rule waits: %s", error.message)
            except Exception as error:  # noqa: BLE001 - at the next look it may be better; without one nothing goes back
                background.tell("promotion by rule could not look", error)

    async def look(self) -> Step | None:
        """Take the next step, if this process holds the lease. Returns it.

        Raises one of WAITS when it has to wait; it is tried again at the next look.
        """
        ttl_s = 5 * self._settings.check_interval_s
        if await self._record.write(leases.acquire, automatic.LEASE, self._holder, ttl_s) is None:
            return None
        standing = await self._record.read(automatic.stand, self._gate)
        step = None if standing is None else automatic.decide(standing, self._settings)
        if step is not None:
            log.info("by rule: %s %s, since %s", step.do.replace("_", " "), version_name(step.version), step.reason)
            await self._take(step)
        return step

    async def _take(self, step: Step) -> None:
        try:
            if step.do == "stage":
                shares = Shares(step.version, step.share, max(step.share, self._settings.comparison_share))
                await self._share(shares, step.reason)
            elif step.do == "promote":
                await self._promoter.promote(step.version, Change("promote", step.reason, False, audit.RULE))
            elif step.do == "rollback":
                await self._promoter.rollback(Change("rollback", step.reason, False, audit.RULE))
            else:
                await self._give_up(step)
        except WAITS:
            raise
        except TandemError as error:
            # It cannot be loaded, whatever the votes say: the next candidate may.
            await self._give_up(Step("give_up", step.version, error.message))

    async def _give_up(self, step: Step) -> None:
        if step.do == "give_up":
            await self._record.write(_note_given_up, step)
        await self._share(Shares(), step.reason)

    async def _share(self, shares: Shares, reason: str) -> None:
        await self._challengers.put(shares, actor=audit.RULE, reason=reason)


def _note_given_up(session: Session, step: Step) -> None:
    audit.add(session, audit.RULE, audit.GIVEN_UP, version_name(step.version), step.reason)
