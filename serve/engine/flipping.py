"""Bringing the engines of this process to another version, step by step: its files verified, loaded into an engine that
is not missed and proved there, traffic flipped between two requests. Until the flip everything can be put back.
"""

import logging
from dataclasses import dataclass

from feedback.errors import EngineUnavailable, TandemError
from feedback.schema import version_name
from feedback.settings import EngineSettings
from serve.engine.bell import Bell
from serve.engine.loading import Loader
from serve.engine.policy_folders import PolicyFolder, PolicyFolders
from serve.engine.pool import Pool
from serve.engine.proof import prove
from serve.engine.slot import Slot
from serve.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A version that an engine holds by now, and what that engine held before; `slot` is None where one held it
    already. In place: the only engine, which takes no chats until the flip.
    """

    policy: PolicyFolder
    slot: Slot | None = None
    held_before: int | None = None
    adapters_before: frozenset[int] = frozenset()
    in_place: bool = False


class Flipping:
    """Whoever takes these steps holds the lease on what the engines hold, or was asked to by its holder."""

    def __init__(
        self,
        pool: Pool,
        loader: Loader,
        folders: PolicyFolders,
        settings: EngineSettings,
        bell: Bell,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._loader = loader
        self._folders = folders
        self._settings = settings
        self._bell = bell
        self._metrics = metrics

    async def fetch(self, version: int) -> PolicyFolder:
        """Its files, here and verified. Raises NotFound, PolicyInvalid, StorageUnavailable."""
        policy = await self._folders.of(version)
        with self._metrics.swap_step_seconds.labels("verify").time():
            await self._folders.verify(policy)
        return policy

    async def prepare(self, version: int) -> PolicyFolder:
        """As `fetch`; and where the only engine will have to change, it has the version beside what it serves. Only
        `load` or `put_back` may follow.
        """
        policy = await self.fetch(version)
        if self.needs_the_only_engine(policy):
            await self._loader.stage(self._pool.slots[0], policy)
        return policy

    async def load(self, policy: PolicyFolder) -> Loaded:
        """Have some engine hold the version, proved. Raises PolicyInvalid, EngineUnavailable; all is as before then."""
        self._pool.prepared = policy.version
        try:
            if self.needs_the_only_engine(policy):
                only = self._pool.slots[0]
                loaded = Loaded(policy, only, only.version, frozenset(only.adapters), in_place=True)
                await self._loader.load_in_place(only, policy)
                return loaded
            return await self.have_held(policy)
        except BaseException:
            self._pool.prepared = None
            raise

    def flip(self, loaded: Loaded) -> None:
        """What was loaded serves."""
        self._pool.serving, self._pool.prepared = loaded.policy.version, None
        if loaded.in_place and loaded.slot is not None:
            self._loader.open(loaded.slot)
        self._bell.ring()

    async def put_back(self, loaded: Loaded | None) -> None:
        """It is not to serve after all: the engine holds again what it held. None where it was not loaded yet."""
        self._pool.prepared = None
        await self._loader.drop_staged()
        slot = None if loaded is None else loaded.slot
        if loaded is None or slot is None or loaded.held_before in (None, slot.version):
            return
        assert loaded.held_before is not None
        adapters = set(loaded.adapters_before)
        if loaded.in_place:
            await self._loader.put_back(slot, loaded.held_before, adapters)
            return
        try:
            if slot.state != "down":
                await self._loader.load_again(slot, loaded.held_before, adapters)
        except TandemError as error:
            name = version_name(loaded.held_before)
            log.warning("engine %d has not all of %s again: %s", slot.index, name, error.message)
        if slot.state == "down":
            slot.wanted, slot.wanted_adapters = loaded.held_before, adapters

    async def have_held(self, policy: PolicyFolder) -> Loaded:
        """As `load`, where there is an engine to spare."""
        holders = self._pool.holders(policy.version)
        if holders:
            probes = await self._folders.probes(policy)
            await prove(holders[0].client, probes, self._settings, holders[0].name_of(policy.version))
            return Loaded(policy)
        beside = next((slot for slot in self._pool.slots if self._fits_beside(slot, policy)), None)
        slot = beside or self._spare()
        loaded = Loaded(policy, slot, slot.version, frozenset(slot.adapters))
        try:
            await self._loader.load(slot, policy)
        except TandemError:
            # An adapter's base may be there by now, and the adapter not.
            await self.put_back(loaded)
            raise
        return loaded

    async def give(self, slot: Slot, policy: PolicyFolder) -> None:
        """Have this engine hold the version, and no longer what it holds. Raises as `load`."""
        await self._loader.load(slot, policy)

    async def spread(self, policy: PolicyFolder) -> None:
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

    def needs_the_only_engine(self, policy: PolicyFolder) -> bool:
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
