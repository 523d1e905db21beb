"""Promotion by flip: the new version is loaded into the spare engine of every host and proved there while the old one
serves; then the record and the routing change in one step. Whatever fails before it leaves the old version serving.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from feedback import gatekeeper
from feedback.errors import Conflict, LeaseLost, TandemError
from feedback.gate import GateRefused
from feedback.operating_settings import GateSettings
from feedback.schema import version_name
from feedback.store import audit, leases, policies, presence, traffic
from serve.engine.changing import Changing
from serve.engine.flipping import Flipping, Loaded
from serve.engine.other_hosts import OtherHosts
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.metrics import Metrics
from serve.record import RECORD_ERRORS, Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """Who wants to change what serves, how and why; and `instead_of` which version, if they said so."""

    kind: str
    reason: str
    force: bool
    actor: str
    instead_of: int | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """What the record keeps of every attempt, whatever became of it."""
        return {"kind": self.kind, "reason": self.reason, "force": self.force, "actor": self.actor}


@dataclass(frozen=True)
class Answer:
    """What the gate says of a change while `stamp` is the same: whether the version serves already, and what a change
    that is forced overrules."""

    stamp: object
    serves: bool = False
    overruled: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What serves now, and what served before."""

    version: int
    previous: int | None
    changed: bool
    elapsed_s: float
    behind: list[str] = field(default_factory=list)
    """Hosts that have not come to serve it, though they had time; they serve nothing until they have."""


class Promoter:
    """One change at a time."""

    def __init__(
        self,
        pool: Pool,
        flipping: Flipping,
        record: Record,
        own: Presence,
        others: OtherHosts,
        metrics: Metrics,
        gate: GateSettings,
        changing: Changing,
    ) -> None:
        self._gate = gate
        self._pool = pool
        self._flipping = flipping
        self._record = record
        self._own = own
        self._others = others
        self._metrics = metrics
        self._changing = changing

    async def promote(self, version: int, change: Change) -> Outcome:
        """Make `version` serve. Promoting what serves already changes nothing.

        Raises NotFound, GateRefused, PolicyInvalid, EngineUnavailable, or Conflict while another promotion is under
        way; the old version serves on.
        """
        # Whatever else is under way: there is nothing to wait for.
        if await self._serves(version):
            return Outcome(version, version, changed=False, elapsed_s=0.0)
        async with self._changing.asked() as epoch:
            began = time.monotonic()
            previous = self._pool.serving
            if await self._serves(version):
                return Outcome(version, version, changed=False, elapsed_s=0.0)
            if change.kind == "rollback" and version != await self._record.read(policies.rollback_target):
                raise Conflict("what serves was changed meanwhile; roll back again if that is to go, too")
            await self._require_what_was_seen(change)
            try:
                # Before anything is loaded. What speaks against it by the commit stops it then.
                await self._record.read(_ask_gate, version, change, self._gate)
                behind = await self._make_serve(version, change, epoch)
            except traffic.RuleOvertaken:
                # Nothing failed, and nothing speaks against the version.
                raise
            except TandemError as error:
                await self._keep_failure(version, change, error)
                raise
            elapsed_s = time.monotonic() - began
            self._metrics.promotions.labels(change.kind, "succeeded").inc()
            self._metrics.swap_seconds.observe(elapsed_s)
            log.info("%s serves after %.2f s", version_name(version), elapsed_s)
            return Outcome(version, previous, changed=True, elapsed_s=elapsed_s, behind=behind)

    async def _require_what_was_seen(self, change: Change) -> None:
        """Raises Conflict where the version that is to go serves no more."""
        if change.instead_of is not None and not await self._record.read(_serves_by_record, change.instead_of):
            raise Conflict(f"{version_name(change.instead_of)} does not serve any more: somebody else changed it")

    async def _serves(self, version: int) -> bool:
        """Here and by the record. Raises NotFound."""
        policy = await self._record.read_once(policies.get, version)
        return version == self._pool.serving and policy.state == "serving"

    async def rollback(self, change: Change) -> Outcome:
        """Go back to the version that served before. Raises Conflict when there is none, else as `promote`."""
        # Who comes second wants to know that, not that there is nothing before it.
        await self._require_what_was_seen(change)
        target = await self._record.read(policies.rollback_target)
        if target is None:
            raise Conflict("there is no earlier version to roll back to; promote the one that is to serve")
        return await self.promote(target, change)

    async def follow(self, version: int) -> None:
        """Have the engines of this process serve what the record says serves: it was promoted while this process was
        away. Raises as `promote`.
        """
        async with self._changing.in_passing():
            loaded = None
            try:
                policy = await self._flipping.prepare(version)
                loaded = await self._flipping.load(policy)
                if not await self._record.read(_serves_by_record, version):
                    raise Conflict(f"{version_name(version)} does not serve any more")
            except BaseException:
                await self._flipping.put_back(loaded)
                raise
            self._flipping.flip(loaded)
            await self._flipping.spread(policy)
        log.info("%s serves here too", version_name(version))

    async def _make_serve(self, version: int, change: Change, epoch: int) -> list[str]:
        """Here and on every other host. Returns the hosts that do not serve it though it was promoted."""
        loaded = None
        try:
            asks = self._own.others > 0
            if asks:
                await self._others.ask(epoch, version, "fetch")
            policy = await self._flipping.prepare(version)
            if asks:
                await self._others.wait_for(epoch, "fetch")
                await self._others.ask(epoch, version, "load")
            loaded = await self._flipping.load(policy)
            if asks:
                await self._others.wait_for(epoch, "load")
            others = await self._commit(loaded, change, epoch)
        except BaseException as error:
            # It may be the record that failed, or the lease; the others notice that the lease has ended, too.
            with contextlib.suppress(*RECORD_ERRORS, LeaseLost):
                await self._others.withdraw(epoch)
                if isinstance(error, asyncio.CancelledError):
                    # Before the engine is put back: for that the process may not have the time.
                    self._metrics.promotions.labels(change.kind, "failed").inc()
                    await self._record.write(_keep_cut_off, version, change, epoch)
            await self._flipping.put_back(loaded)
            raise
        await self._flipping.spread(policy)
        if not self._pool.is_open:
            # It serves by the record; should that be away by now, this process enters at its next look.
            with contextlib.suppress(*RECORD_ERRORS):
                await self._own.enter()
        return await self._others.wait_until_they_serve(version) if others else []

    async def _commit(self, loaded: Loaded, change: Change, epoch: int) -> int:
        """The version serves, by the record and here. Returns on how many other processes it is to serve, too."""
        with self._metrics.swap_step_seconds.labels("commit").time():
            version = loaded.policy.version
            while True:
                # Many votes take long to read, and nobody else writes to SQLite during the commit.
                answer = await self._record.read(_ask_gate, version, change, self._gate)
                others = await self._record.write(
                    _set_serving, version, change, epoch, self._own.id, self._gate, answer
                )
                if others is not None:
                    break
                # Somebody has begun to serve since this process looked.
                await self._others.ask(epoch, version, "load")
                await self._others.wait_for(epoch, "load")
        self._flipping.flip(loaded)
        return others

    async def _keep_failure(self, version: int, change: Change, error: TandemError) -> None:
        self._metrics.promotions.labels(change.kind, "failed").inc()
        log.warning("%s was not promoted: %s", version_name(version), error.message)
        await self._record.write(_keep_failed, version, change, error.message)


def _keep_failed(session: Session, version: int, change: Change, detail: str) -> None:
    policies.keep_failure(session, version, **change.asked, detail=detail)


def _keep_cut_off(session: Session, version: int, change: Change, epoch: int) -> None:
    """Unless it was made in the very moment of the end. Raises LeaseLost."""
    leases.check(session, leases.ENGINES, epoch)
    if not _serves_by_record(session, version):
        _keep_failed(session, version, change, "the process that led it was ended before it was made")


def _set_serving(
    session: Session, version: int, change: Change, epoch: int, leader: str, gate: GateSettings, answer: Answer
) -> int | None:
    """Returns on how many other processes it is to serve; None, and nothing is changed, when one is not prepared.

    `answer` is the gate's, asked just before. Raises LeaseLost, and as `_ask_gate` where that does not hold any more.
    """
    leases.check(session, leases.ENGINES, epoch)
    said = presence.reported(session, leader, epoch, "load")
    if said.waiting or said.failed:
        return None
    if answer.stamp != gatekeeper.stamp(session, version):
        answer = _ask_gate(session, version, change, gate)
    if not answer.serves:
        policies.set_serving(session, version, **change.asked, overruled=answer.overruled)
        traffic.end_challenge(session, version, actor=change.actor)
    presence.withdraw(session, epoch)
    return said.ready


def _serves_by_record(session: Session, version: int) -> bool:
    """So it may before it does here, where this process could not follow."""
    serving = policies.serving(session)
    return serving is not None and serving.version == version


def _ask_gate(session: Session, version: int, change: Change, gate: GateSettings) -> Answer:
    """Raises GateRefused for a change that is not forced, RuleOvertaken for one by a rule that had something else
    before it. Going back is never stopped, nor is what serves already.
    """
    stamp = gatekeeper.stamp(session, version)
    if _serves_by_record(session, version):
        return Answer(stamp, serves=True)
    if change.actor == audit.RULE:
        _check_rule(session, version, change)
    if change.kind == "rollback":
        return Answer(stamp)
    stopping = gatekeeper.look(session, version, gate).stopping
    if stopping and not change.force:
        raise GateRefused(version_name(version), stopping)
    return Answer(stamp, overruled="; ".join(verdict.said() for verdict in stopping) or None)


def _check_rule(session: Session, version: int, change: Change) -> None:
    """A rule promotes what it tries, takes back what a rule promoted. Raises RuleOvertaken when neither is so now."""
    serving = policies.serving(session)
    last = None if serving is None else policies.last_promotion(session, serving.version)
    promoted_by_rule = last is not None and last.actor == audit.RULE
    tried_by_rule = traffic.set_by_rule(session) and traffic.get(session).challenger == version
    if not (promoted_by_rule if change.kind == "rollback" else tried_by_rule):
        raise traffic.RuleOvertaken
