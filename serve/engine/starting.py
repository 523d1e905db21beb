"""Starting the engine of a slot with a policy version: verified, proved and warm before it may take a chat."""

import asyncio
import time

from feedback.schema import version_name
from feedback.settings import EngineSettings
from serve.engine.client import EngineLost
from serve.engine.launcher_client import LauncherClient
from serve.engine.policy_folders import PolicyFolders
from serve.engine.proof import prove
from serve.engine.slot import Slot

READY_INTERVAL_S = 0.2
PROOF_TIMEOUT_S = 10.0


class Starter:
    """Has the launcher start engines. What a slot's state is, is for the caller to say."""

    def __init__(self, launcher: LauncherClient, folders: PolicyFolders, settings: EngineSettings) -> None:
        self.launcher = launcher
        self._folders = folders
        self._settings = settings

    async def start(self, slot: Slot, version: int, *, adopt: bool = False) -> None:
        """Start the slot's engine anew with `version`. With `adopt`, an engine that holds it already is kept.

        Raises PolicyInvalid, EngineLost, EngineUnavailable; what the slot holds is then unknown.
        """
        slot.version = None
        policy = await self._folders.of(version)
        name = version_name(version)
        if adopt and await self._holding(slot) == name:
            # Whoever drove it before may have died while it was paused.
            await slot.client.resume(PROOF_TIMEOUT_S)
        else:
            await self._folders.verify(policy)
            # Whatever is there has died, hangs or was drained: there is nothing to wait for.
            await self.launcher.restart(slot.index, policy.folder, grace_s=0.0)
            await self._wait_until_it_answers(slot)
            await slot.client.name_weights(name, PROOF_TIMEOUT_S)
        await prove(slot.client, await self._folders.probes(policy), self._settings)
        await slot.client.warm_up(self._settings.start_timeout_s)
        slot.version = version

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
