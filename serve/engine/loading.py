"""Loading another version into the engine of a slot: nothing new goes in, what is in flight ends, the weights change,
and the engine proves that it serves them. Where chats have to wait for that, the weights are beside the old ones
before, and only change places with them.
"""

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from feedback.errors import Conflict, EngineUnavailable, TandemError
from feedback.schema import version_name
from feedback.settings import EngineSettings
from serve.engine.adapters import Adapters
from serve.engine.policy_folders import PolicyFolder, PolicyFolders, Probe
from serve.engine.pool import Pool
from serve.engine.proof import default_tolerance, prove
from serve.engine.slot import Slot
from serve.engine.starting import Starter
from serve.engine.transfer import EngineLost
from serve.metrics import Metrics

log = logging.getLogger(__name__)

# An engine that takes longer to forget what is staged is on its way down.
DROP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Staged:
    """A version that the slot's engine has loaded beside what it serves, and what is to be known for its proof."""

    slot: Slot
    version: int
    probe: Probe
    tolerance: float


class Loader:
    """Every step is bounded by `engine.swap_timeout_s`, or `engine.start_timeout_s` where an engine is started anew."""

    def __init__(
        self,
        pool: Pool,
        starter: Starter,
        folders: PolicyFolders,
        adapters: Adapters,
        settings: EngineSettings,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._adapters = adapters
        self._pool = pool
        self._starter = starter
        self._folders = folders
        self._settings = settings
        self._staged: Staged | None = None

    async def load(self, slot: Slot, policy: PolicyFolder, *, drain_timeout_s: float | None = None) -> None:
        """Have the slot, which takes chats now, hold `policy`; it takes none again before it does.

        Raises TandemError. The slot then takes chats for the version that it held, at once when nothing was changed
        yet, else when it has been started again.
        """
        base = await self._folders.base_of(policy)
        if slot.version != base.version:
            if base is not policy:
                await self._folders.verify(base)
            if slot.state == "down":
                # Found dead since it was chosen: whoever watches it starts it with what it is to hold.
                raise EngineUnavailable(f"engine {slot.index} has ended; try again shortly")
            await self._load_held(slot, base, drain_timeout_s or self._settings.swap_timeout_s)
            self.open(slot)
        if base is not policy:
            await self._adapters.add(slot, policy)

    async def stage(self, slot: Slot, policy: PolicyFolder) -> None:
        """Have the engine, which serves on, make `load_in_place` of this version short. Where that does not succeed,
        for want of memory perhaps, it takes longer. Raises PolicyInvalid.
        """
        base = await self._folders.base_of(policy)
        if base is not policy:
            await self._folders.verify(base)
        timeout_s = self._settings.swap_timeout_s
        try:
            with self._metrics.swap_step_seconds.labels("stage").time():
                why_not = await slot.client.stage(base.folder, timeout_s)
                if why_not is None:
                    # The shortest passes through all the weights, too, and everybody waits for it.
                    probe = min(await self._folders.probes(base), key=lambda one: len(one.tokens))
                    tolerance = self._settings.probe_tolerance or await default_tolerance(
                        slot.client, [probe], timeout_s
                    )
                    self._staged = Staged(slot, base.version, probe, tolerance)
        except EngineLost as error:
            why_not = error.message
        if why_not is not None:
            name = version_name(base.version)
            log.warning("engine %d does not load %s beforehand (%s): chats will wait", slot.index, name, why_not)

    async def drop_staged(self) -> None:
        """It is not to serve after all."""
        staged, self._staged = self._staged, None
        if staged is not None:
            with contextlib.suppress(EngineLost):
                await staged.slot.client.drop_staged(DROP_TIMEOUT_S)

    async def load_in_place(self, slot: Slot, policy: PolicyFolder) -> None:
        """As `load`, for the only engine there is: chats wait until the caller opens the slot. After a failure the old
        weights are put back by the same way before the engine is given up.
        """
        held_before, adapters_before = slot.version, set(slot.adapters)
        try:
            base = await self._folders.base_of(policy)
            if base is not policy and self._staged_for(slot, base) is None:
                await self._folders.verify(base)
            await self._load_held(slot, base, self._settings.swap_timeout_s)
            if base is not policy:
                await self._adapters.add(slot, policy)
        except (TandemError, asyncio.CancelledError) as error:
            # In a Conflict another process has started the engine, and answers for what it holds.
            if slot.state != "ready" and held_before is not None and not isinstance(error, Conflict):
                await self.put_back(slot, held_before, adapters_before)
            raise

    async def load_again(self, slot: Slot, version: int, adapters: set[int]) -> None:
        """As `load`, for what the slot held before, with its adapters."""
        await self.load(slot, await self._folders.of(version))
        slot.wanted_adapters = adapters
        await self._adapters.restore(slot)

    async def put_back(self, slot: Slot, version: int, adapters: set[int]) -> None:
        """Have the slot hold `version` with its adapters again and take chats, or be started again with it."""
        slot.state, slot.wanted, slot.wanted_adapters = "held", version, adapters
        timeout_s = self._settings.swap_timeout_s
        try:
            before = await self._folders.of(version)
            await slot.client.drain(None, timeout_s)
            await self._take(slot, before)
            await slot.client.name_weights(version_name(version), timeout_s)
            await self._adapters.restore(slot)
        except (TandemError, OSError) as error:
            # Nobody else would look at an engine that is being changed.
            log.warning("engine %d would not take %s back: %s", slot.index, version_name(version), error)
            slot.state, slot.version = "down", None
            slot.adapters.clear()
            slot.suspected.set()
            return
        slot.version = version
        self.open(slot)

    def open(self, slot: Slot) -> None:
        """Let chats in."""
        slot.state = "ready"
        self._pool.admission.serve_waiting()

    async def _load_held(self, slot: Slot, policy: PolicyFolder, drain_timeout_s: float) -> None:
        held_before, adapters_before = slot.version, set(slot.adapters)
        slot.state = "held"
        try:
            with self._metrics.swap_step_seconds.labels("drain").time():
                await self._drain(slot, drain_timeout_s)
        except (EngineUnavailable, asyncio.CancelledError):
            self.open(slot)
            raise
        try:
            with self._metrics.swap_step_seconds.labels("change").time():
                await self._change_weights(slot, policy)
                await slot.client.name_weights(version_name(policy.version), self._settings.swap_timeout_s)
        except BaseException:
            # Its weights are not to be trusted any more.
            slot.wanted, slot.version, slot.state = held_before, None, "down"
            slot.adapters, slot.wanted_adapters = set(), adapters_before
            slot.suspected.set()
            raise
        slot.wanted = slot.version = policy.version

    async def _drain(self, slot: Slot, timeout_s: float) -> None:
        """Wait for the replies in flight, this process's and then any other's.

        Raises EngineUnavailable when they do not end in time; nothing was changed then.
        """
        began = time.monotonic()
        if not await slot.drained(timeout_s):
            raise EngineUnavailable("the replies in flight did not end in time; nothing was changed")
        held = None if slot.version is None else version_name(slot.version)
        try:
            await slot.client.drain(held, max(1.0, timeout_s - (time.monotonic() - began)))
        except EngineLost as error:
            # What does not even drain is started anew.
            log.warning("engine %d would not drain (%s)", slot.index, error)

    async def _change_weights(self, slot: Slot, policy: PolicyFolder) -> None:
        slot.version = None
        slot.adapters, slot.wanted_adapters = set(), set()
        try:
            await self._take(slot, policy)
        except EngineLost as error:
            # Other shapes, say: what an engine will not take in place, a new one does.
            log.warning("engine %d would not reload (%s); it is started anew", slot.index, error)
            await self._starter.start_anew(slot, policy.version)

    async def _take(self, slot: Slot, policy: PolicyFolder) -> None:
        """Have the drained engine load the weights and prove them."""
        await self._adapters.remove_all(slot)
        staged = self._staged_for(slot, policy)
        if staged is not None and await slot.client.commit(self._settings.swap_timeout_s):
            self._staged = None
            probes, tolerance = [staged.probe], staged.tolerance
        else:
            others_write = any(other.state == "ready" for other in self._pool.slots if other is not slot)
            await slot.client.reload(policy.folder, self._settings.swap_timeout_s, gently=others_write)
            probes, tolerance = await self._folders.probes(policy), None
        await self._adapters.serve_base(slot, policy)
        await prove(slot.client, probes, self._settings, slot.name_of(policy.version), tolerance)

    def _staged_for(self, slot: Slot, policy: PolicyFolder) -> Staged | None:
        staged = self._staged
        return staged if staged is not None and (staged.slot, staged.version) == (slot, policy.version) else None
