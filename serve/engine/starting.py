"""Starting the engine of a slot with a policy version: verified, proved and warm before it may take a chat."""

import asyncio
import time

from feedback.errors import Conflict, InvalidRequest
from feedback.schema import version_name, version_number
from feedback.settings import EngineSettings
from serve.engine.adapters import Adapters
from serve.engine.client import EngineLost
from serve.engine.fence import Fence
from serve.engine.launcher_client import LauncherClient
from serve.engine.policy_folders import PolicyFolders
from serve.engine.proof import prove
from serve.engine.slot import Slot
from serve.record import Record

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
    ) -> None:
        self.launcher = launcher
        self._adapters = adapters
        self._folders = folders
        self._settings = settings
        # Engines of other machines, or of another home over the same record, are not these.
        self._fences = [Fence(record, f"engine-{index}@{engines}") for index in range(settings.slots)]

    async def start(self, slot: Slot, version: int, *, adopt: bool = False) -> None:
        """Start the slot's engine anew with `version`. With `adopt`, an engine that holds it already is kept; and so is
        one that another process has started since this one looked last, whatever it holds.

        Raises PolicyInvalid, EngineLost, EngineUnavailable; what the slot holds is then unknown. Raises Conflict while
        another process starts it.
        """
        slot.version = None
        try:
            async with self._fences[slot.index].held():
                replaced = await self._replaced(slot)
                # One that was given up is not asked: it may hang, and everybody waits.
                found = await self.found(slot) if adopt or replaced else None
                if found is not None and (replaced or found == version):
                    version = found
                    await self._adopt(slot, found)
                else:
                    await self._start_anew(slot, version)
                slot.server_pid = await self._server_pid(slot)
                slot.wanted = version
                await self._adapters.restore(slot)
                slot.version = version
        except Conflict:
            # Whatever will be found there is another process's doing.
            slot.server_pid = 0
            raise

    async def found(self, slot: Slot) -> int | None:
        """The version that the engine goes by; None when it does not answer or is being changed."""
        name = await self._holding(slot)
        try:
            return None if name is None else version_number(name)
        except InvalidRequest:
            return None

    async def _adopt(self, slot: Slot, version: int) -> None:
        # Whoever drove it before may have died while it was paused, or had another version beside this one.
        await slot.client.resume(PROOF_TIMEOUT_S)
        await slot.client.drop_staged(PROOF_TIMEOUT_S)
        probes = await self._folders.probes(await self._folders.of(version))
        await prove(slot.client, probes, self._settings, slot.name_of(version))

    async def _start_anew(self, slot: Slot, version: int) -> None:
        policy = await self._folders.of(version)
        await self._folders.verify(policy)
        # Whatever is there has died, hangs or was drained: there is nothing to wait for.
        await self.launcher.restart(slot.index, policy.folder, grace_s=0.0)
        await self._wait_until_it_answers(slot)
        await self._adapters.serve_base(slot, policy)
        name = slot.name_of(version)
        await prove(slot.client, await self._folders.probes(policy), self._settings, name)
        await slot.client.warm_up(self._settings.start_timeout_s, name)
        await slot.client.name_weights(version_name(version), PROOF_TIMEOUT_S)

    async def _replaced(self, slot: Slot) -> bool:
        """True when another process has put a new server into the slot."""
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
