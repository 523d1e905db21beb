"""Promotion by flip: the new version is loaded into the spare slot and proved there while the old one serves; then the
record and the routing change in one step. Whatever fails before that step leaves the old version serving.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from feedback import gatekeeper
from feedback.errors import Conflict, EngineUnavailable, TandemError
from feedback.gate import GateRefused
from feedback.operating_settings import GateSettings
from feedback.schema import version_name
from feedback.settings import EngineSettings
from feedback.store import leases, policies
from serve.engine.bell import Bell
from serve.engine.fence import ENGINES, Fence
from serve.engine.loading import Loader
from serve.engine.policy_folders import PolicyFolder, PolicyFolders
from serve.engine.pool import Pool
from serve.engine.proof import prove
from serve.engine.slot import Slot
from serve.metrics import Metrics
from serve.record import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """Who wants to change what serves, how and why."""

    kind: str
    reason: str
    force: bool
    actor: str
    overruled: str | None = None
    """What the gate said against it, where it was forced."""


# Makes the change count, or raises.
Commit = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Outcome:
    """What serves now, and what served before."""

    version: int
    previous: int | None
    changed: bool
    elapsed_s: float


class Promoter:
    """One change at a time."""

    def __init__(
        self,
        pool: Pool,
        loader: Loader,
        folders: PolicyFolders,
        record: Record,
        settings: EngineSettings,
        bell: Bell,
        metrics: Metrics,
        gate: GateSettings,
    ) -> None:
        self._gate = gate
        self._pool = pool
        self._bell = bell
        self._loader = loader
        self._folders = folders
        self._record = record
        self._settings = settings
        self._metrics = metrics
        self._fence = Fence(record)
        self._changing = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """True while this process changes what the engines hold."""
        return self._changing.locked()

    async def promote(self, version: int, change: Change) -> Outcome:
        """Make `version` serve. Promoting what serves already changes nothing.

        Raises NotFound, GateRefused, PolicyInvalid, EngineUnavailable, or Conflict while another promotion is under
        way; the old version serves on.
        """
        if self._changing.locked():
            raise Conflict("another promotion is under way; wait until it has ended")
        async with self._changing:
            began = time.monotonic()
            await self._record.read(policies.get, version)
            previous = self._pool.serving
            if version == previous:
                return Outcome(version, previous, changed=False, elapsed_s=0.0)
            async with self._fence.held() as epoch:
                try:
                    overruled = await self._pass_gate(version, change)
                    await self._load_and_flip(version, self._record_it(replace(change, overruled=overruled), epoch))
                except TandemError as error:
                    await self._keep_failure(version, change, error)
                    raise
            elapsed_s = time.monotonic() - began
            self._metrics.promotions.labels(change.kind, "succeeded").inc()
            self._metrics.swap_seconds.observe(elapsed_s)
            log.info("%s serves after %.2f s", version_name(version), elapsed_s)
            return Outcome(version, previous, changed=True, elapsed_s=elapsed_s)

    async def load_challenger(self, version: int) -> None:
        """Have some engine hold `version`, beside the serving one. Raises as `promote`."""
        if self._changing.locked():
            raise Conflict("a promotion is under way; wait until it has ended")
        async with self._changing, self._fence.held():
            policy = await self._folders.of(version)
            await self._folders.verify(policy)
            if self._needs_the_only_engine(policy):
                raise Conflict(
                    "there is one engine only, and it serves; a challenger needs another", param="challenger"
                )
            await self._have_held(policy)

    async def rollback(self, change: Change) -> Outcome:
        """Go back to the version that served before. Raises Conflict when there is none, else as `promote`."""
        return await self.promote(await self._record.read(policies.rollback_target), change)

    async def _pass_gate(self, version: int, change: Change) -> str | None:
        """What the gate says against a change that is forced, or None. Raises GateRefused for one that is not.

        Going back is never stopped.
        """
        if change.kind == "rollback":
            return None
        stopping = (await self._record.read(gatekeeper.look, version, self._gate)).stopping
        if stopping and not change.force:
            raise GateRefused(version_name(version), stopping)
        return "; ".join(verdict.said() for verdict in stopping) or None

    def _record_it(self, change: Change, epoch: int) -> Commit:
        async def commit(version: int) -> None:
            await self._record.write(_set_serving, version, change, epoch)

        return commit

    async def follow(self, version: int) -> None:
        """Have the engines of this process serve what the record says serves, since a process with engines of its own
        promoted it. Raises as `promote`.
        """
        if self._changing.locked():
            return
        async with self._changing, self._fence.held():
            await self._load_and_flip(version, self._check_it_serves)
        log.info("%s serves here too", version_name(version))

    async def _check_it_serves(self, version: int) -> None:
        serving = await self._record.read(policies.serving)
        if serving is None or serving.version != version:
            raise Conflict(f"{version_name(version)} does not serve any more")

    async def _load_and_flip(self, version: int, commit: Commit) -> None:
        policy = await self._folders.of(version)
        with self._metrics.swap_step_seconds.labels("verify").time():
            await self._folders.verify(policy)
        if self._needs_the_only_engine(policy):
            await self._flip_in_place(policy, commit)
            return
        await self._have_held(policy)
        await self._flip(version, commit)
        await self._load_elsewhere(policy)

    async def _flip_in_place(self, policy: PolicyFolder, commit: Commit) -> None:
        only = self._pool.slots[0]
        held_before, adapters_before = only.version, set(only.adapters)
        await self._loader.load_in_place(only, policy)
        try:
            await self._flip(policy.version, commit)
        except BaseException:
            if held_before is not None:
                await self._loader.put_back(only, held_before, adapters_before)
            raise
        self._loader.open(only)

    async def _flip(self, version: int, commit: Commit) -> None:
        with self._metrics.swap_step_seconds.labels("commit").time():
            await commit(version)
        self._pool.serving = version
        self._bell.ring()

    async def _load_elsewhere(self, policy: PolicyFolder) -> None:
        """Where there are more than two engines, all but one are to serve; one after the other. The last one keeps what
        served, to compare with and to go back to; an adapter on what it holds it takes beside that.
        """
        for slot in self._pool.slots:
            if slot.state != "ready" or policy.version in slot.versions:
                continue
            others = [one for one in self._pool.slots if one is not slot and policy.version not in one.versions]
            if not others and not self._fits_beside(slot, policy):
                continue
            try:
                await self._loader.load(slot, policy)
            except TandemError as error:
                # The version serves already; this engine is brought to it by whoever keeps it alive.
                log.warning("engine %d has not taken %s yet: %s", slot.index, version_name(policy.version), error)
                slot.wanted = policy.version if policy.base is None else policy.base.version

    async def _have_held(self, policy: PolicyFolder) -> None:
        """Some engine is to hold the version, proved."""
        holders = self._pool.holders(policy.version)
        if holders:
            probes = await self._folders.probes(policy)
            await prove(holders[0].client, probes, self._settings, holders[0].name_of(policy.version))
            return
        beside = next((slot for slot in self._pool.slots if self._fits_beside(slot, policy)), None)
        await self._loader.load(beside or self._spare(), policy)

    def _needs_the_only_engine(self, policy: PolicyFolder) -> bool:
        """True when there is one engine, and it must give up what it holds."""
        return (
            len(self._pool.slots) == 1
            and not self._pool.holders(policy.version)
            and not self._fits_beside(self._pool.slots[0], policy)
        )

    @staticmethod
    def _fits_beside(slot: Slot, policy: PolicyFolder) -> bool:
        """True for an adapter on what the slot holds: it needs no engine of its own."""
        return policy.base is not None and slot.state == "ready" and slot.version == policy.base.version

    def _spare(self) -> Slot:
        """The slot whose version is missed least, never the last one that serves. Raises EngineUnavailable."""
        serving = self._pool.serving
        others = [slot for slot in self._pool.slots if slot.state == "ready" and serving not in slot.versions]
        if others:
            return others[-1]
        holders = self._pool.holders(serving) if serving is not None else []
        if len(holders) < 2:
            raise EngineUnavailable("there is no spare engine to load the version into; try again shortly")
        return holders[-1]

    async def _keep_failure(self, version: int, change: Change, error: TandemError) -> None:
        self._metrics.promotions.labels(change.kind, "failed").inc()
        log.warning("%s was not promoted: %s", version_name(version), error.message)
        await self._record.write(
            policies.keep_failure,
            version,
            kind=change.kind,
            reason=change.reason,
            force=change.force,
            actor=change.actor,
            detail=error.message,
        )


def _set_serving(session: Session, version: int, change: Change, epoch: int) -> None:
    leases.check(session, ENGINES, epoch)
    policies.set_serving(
        session,
        version,
        kind=change.kind,
        reason=change.reason,
        force=change.force,
        actor=change.actor,
        overruled=change.overruled,
    )
