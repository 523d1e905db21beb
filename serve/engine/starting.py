"""Starting the engine of a slot with a policy version: verified, proved and warm before it may take a chat."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from sqlalchemy.orm import Session

from feedback.errors import Conflict, InvalidRequest, PolicyInvalid
from feedback.schema import version_name, version_number
from feedback.settings import EngineSettings
from feedback.store import leases
from serve.engine.adapters import Adapters
from serve.engine.fence import RENEW_INTERVAL_S, Fence
from serve.engine.launcher_client import LauncherClient
from serve.engine.life import Life
from serve.engine.policy_folders import PolicyFolders
from serve.engine.proof import prove
from serve.engine.slot import Slot
from serve.engine.transfer import EngineLost
from serve.record import Record

log = logging.getLogger(__name__)

READY_INTERVAL_S = 0.2
PROOF_TIMEOUT_S = 10.0


class Starter:
    """Has the launcher start engines. What a slot's state is, is for the caller to say."""

    def __init__(
        self,
        launcher: LauncherClient,
        folders: PolicyFolders,
        adapters: Adapters,
        record: Record,
        settings: EngineSettings,
        engines: str,
        life: Life,
    ) -> None:
        self.launcher = launcher
        self._adapters = adapters
        self._folders = folders
        self._record = record
        self._settings = settings
        self._life = life
        # Engines of other machines, or of another home over the same record, are not these.
        self._fences = [Fence(record, life.process_id, f"engine-{index}@{engines}") for index in range(settings.slots)]
        self._changes = (leases.ENGINES, f"engines@{engines}")

    async def start(self, slot: Slot, version: int, *, adopt: bool = False) -> None:
        """Have the slot's engine hold `version`. One that another process has started since this one looked last is
        kept, whatever it holds; with `adopt` so is one that holds `version` already, and where other processes drive
        the same engines one that holds anything: they may have changed it.

        Raises as `start_anew`, and Conflict while another process starts or changes it.
        """
        async with self._starting(slot):
            replaced = await self._replaced(slot)
            # One that was given up is not asked: it may hang, and everybody waits.
            kept = await self._kept(slot, None if replaced else version) if adopt or replaced else None
            if kept is None:
                await self._start_anew(slot, version)
            await self._note(slot, version if kept is None else kept)

    async def start_anew(self, slot: Slot, version: int) -> None:
        """Whatever is there. Raises PolicyInvalid, EngineLost, EngineUnavailable; what the slot holds is then unknown.
        Raises Conflict while another process starts it, or when one has since this one looked last: chats are in it.
        """
        async with self._starting(slot):
            there = await self._server_pid(slot)
            if None not in (slot.server_pid, there) and there != slot.server_pid:
                raise Conflict(f"another process has started engine {slot.index} meanwhile")
            await self._start_anew(slot, version)
            await self._note(slot, version)

    @contextlib.asynccontextmanager
    async def _starting(self, slot: Slot) -> AsyncIterator[None]:
        slot.version = None
        try:
            async with self._fences[slot.index].held():
                yield
        except Conflict:
            # Whatever will be found there is another process's doing.
            slot.server_pid = 0
            raise

    async def _note(self, slot: Slot, version: int) -> None:
        slot.server_pid = await self._server_pid(slot)
        slot.wanted = version
        await self._adapters.restore(slot)
        slot.version = version

    async def found(self, slot: Slot) -> int | None:
        """The version that the engine goes by; None when it does not answer or is being changed."""
        name = await self._holding(slot)
        return None if name is None else version_of(name)

    async def is_abandoned(self, slot: Slot) -> bool:
        """True where the engine is in mid-change and nobody holds a lease to change or start it. Another process that
        lives, and whose lease ran out while it or the record stood still, has time to renew it.
        """
        names, began = (*self._changes, self._fences[slot.index].name), time.monotonic()
        epochs = await self._record.read(_free, names)
        while epochs is not None and await self._is_unfinished(slot):
            if await self._record.read(_free, names) != epochs:
                return False
            if not self._life.is_shared() or time.monotonic() - began > 2 * RENEW_INTERVAL_S:
                return True
            await asyncio.sleep(READY_INTERVAL_S)
        return False

    async def _is_unfinished(self, slot: Slot) -> bool:
        """True when the engine answers, and by no version's name."""
        name = await self._holding(slot)
        return name is not None and version_of(name) is None

    async def _kept(self, slot: Slot, version: int | None) -> int | None:
        """What the engine that is there holds, if it can be kept: `version`, or anything where that is None or other
        processes drive it. Raises Conflict while another process changes it.
        """
        found, shared = await self.found(slot), self._life.is_shared()
        if found is not None and (shared or version in (None, found)) and await self._is_whole(slot, found, shared):
            return found
        if shared and await self._record.read(_free, self._changes) is None:
            raise Conflict("another process is changing what it holds")
        return None

    async def _is_whole(self, slot: Slot, version: int, shared: bool) -> bool:
        try:
            probes = await self._folders.probes(await self._folders.of(version))
            if not shared:
                # Whoever drove it may have died while it was paused, or had another version beside this one.
                await slot.client.resume(PROOF_TIMEOUT_S)
                await slot.client.drop_staged(PROOF_TIMEOUT_S)
            await prove(slot.client, probes, self._settings, slot.name_of(version))
        except (EngineLost, PolicyInvalid) as error:
            log.warning("engine %d does not serve %s as it says: %s", slot.index, version_name(version), error.message)
            return False
        return True

    async def _start_anew(self, slot: Slot, version: int) -> None:
        policy = await self._folders.of(version)
        await self._folders.verify(policy)
        # Whatever is there has died, hangs or was drained: there is nothing to wait for.
        await self.launcher.restart(slot.index, policy.folder)
        await self._wait_until_it_answers(slot)
        await self._adapters.serve_base(slot, policy)
        name = slot.name_of(version)
        await prove(slot.client, await self._folders.probes(policy), self._settings, name)
        await slot.client.warm_up(self._settings.start_timeout_s, name)
        await slot.client.name_weights(version_name(version), PROOF_TIMEOUT_S)

    async def _replaced(self, slot: Slot) -> bool:
        """True when the slot's server is gone, or another process has put a new one there."""
        return slot.server_pid is not None and await self._server_pid(slot) != slot.server_pid

    async def _server_pid(self, slot: Slot) -> int | None:
        status = (await self.launcher.status())[slot.index]
        return status.pid if status.alive else None

    async def _wait_until_it_answers(self, slot: Slot) -> None:
        deadline = time.monotonic() + self._settings.start_timeout_s
        while await self._holding(slot) is None:
            if time.monotonic() > deadline:
                raise EngineLost(f"engine {slot.index} was not ready after {self._settings.start_timeout_s:g} s")
            if not (await self.launcher.status())[slot.index].alive:
                raise EngineLost(f"engine {slot.index} ended while it started; its log says why")
            await asyncio.sleep(READY_INTERVAL_S)

    async def _holding(self, slot: Slot) -> str | None:
        """What the engine says it holds; None when it does not answer."""
        try:
            return await slot.client.weight_version(PROOF_TIMEOUT_S)
        except EngineLost:
            return None


def version_of(name: str) -> int | None:
    """Of what an engine says it holds; None where that is no version's name, as in mid-change."""
    try:
        return version_number(name)
    except InvalidRequest:
        return None


def _free(session: Session, names: tuple[str, ...]) -> list[int] | None:
    """The epochs of leases that nobody holds; None where somebody holds one."""
    if any(leases.held(session, name) for name in names):
        return None
    return [leases.epoch(session, name) for name in names]
