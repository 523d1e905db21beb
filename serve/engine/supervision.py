"""Keeping the engines alive: started at the beginning, watched by the progress of their tokens, started again with
back-off when dead or hung.

vLLM's `/health` stays 200 while its engine hangs, so it is not asked.
"""

import asyncio
import contextlib
import logging
import time

from feedback.errors import EngineUnavailable, TandemError
from feedback.schema import version_name
from feedback.settings import EngineSettings
from serve.engine.client import EngineLost
from serve.engine.launcher_client import LauncherClient
from serve.engine.policy_folders import PolicyFolders
from serve.engine.pool import Pool
from serve.engine.proof import prove
from serve.engine.slot import Slot
from serve.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
READY_INTERVAL_S = 0.2
PROOF_TIMEOUT_S = 10.0
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0


class Supervision:
    """One task for each slot, from `start` to `stop`."""

    def __init__(
        self, pool: Pool, launcher: LauncherClient, folders: PolicyFolders, settings: EngineSettings, metrics: Metrics
    ) -> None:
        self._pool = pool
        self._launcher = launcher
        self._folders = folders
        self._settings = settings
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, versions: list[int]) -> None:
        """Have slot i hold `versions[i]`."""
        for slot, version in zip(self._pool.slots, versions, strict=True):
            slot.wanted = version
            self._tasks.append(asyncio.create_task(self._keep_alive(slot), name=f"engine-{slot.index}"))
        self._tasks.append(asyncio.create_task(self._listen_for_ends(), name="engine-ends"))

    async def stop(self) -> None:
        """Stop watching; the engines end with the launcher."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def bring_up(self, slot: Slot, version: int, *, grace_s: float = 0.0, adopt: bool = False) -> None:
        """Start the slot's engine with `version`, proved and warm. Raises TandemError.

        With `adopt` an engine that holds this version already is taken as it is.
        """
        slot.state, slot.version = "down", None
        policy = await self._folders.of(version)
        name = version_name(version)
        if not (adopt and await self._holding(slot) == name):
            await self._folders.verify(policy)
            await self._launcher.restart(slot.index, policy.folder, grace_s)
            await self._wait_until_it_answers(slot)
            await slot.client.name_weights(name, PROOF_TIMEOUT_S)
        await prove(slot.client, await self._folders.probes(policy), self._settings)
        await slot.client.warm_up(self._settings.start_timeout_s)
        slot.wanted, slot.version, slot.state = version, version, "ready"
        slot.suspected.clear()
        self._pool.admission.serve_waiting()
        log.info("engine %d is ready with %s", slot.index, name)

    async def _wait_until_it_answers(self, slot: Slot) -> None:
        deadline = time.monotonic() + self._settings.start_timeout_s
        while await self._holding(slot) is None:
            if time.monotonic() > deadline:
                raise EngineLost(f"engine {slot.index} was not ready after {self._settings.start_timeout_s:g} s")
            status = (await self._launcher.status())[slot.index]
            if not status.alive:
                raise EngineLost(f"engine {slot.index} ended while it started; its log says why")
            await asyncio.sleep(READY_INTERVAL_S)

    async def _holding(self, slot: Slot) -> str | None:
        """What the engine says it holds; None when it does not answer."""
        try:
            return await slot.client.weight_version(PROOF_TIMEOUT_S)
        except EngineLost:
            return None

    async def _listen_for_ends(self) -> None:
        """Look at an engine as soon as its process has ended."""
        while True:
            with contextlib.suppress(EngineUnavailable):
                async for status in self._launcher.watch():
                    if not status.alive:
                        self._pool.slots[status.slot].suspected.set()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _wait_for_the_launcher(self) -> None:
        """It takes its time to import vLLM."""
        while True:
            try:
                await self._launcher.status()
            except EngineUnavailable:
                await asyncio.sleep(READY_INTERVAL_S)
            else:
                return

    async def _keep_alive(self, slot: Slot) -> None:
        backoff_s = FIRST_BACKOFF_S
        adopt = True
        await self._wait_for_the_launcher()
        while True:
            if slot.state == "down" and slot.wanted is not None:
                try:
                    await self.bring_up(slot, slot.wanted, adopt=adopt)
                except (TandemError, OSError) as error:
                    log.warning("engine %d did not start: %s", slot.index, error)
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
                    continue
                adopt = False
            await self._wait_for_a_reason_to_look(slot)
            if slot.state != "ready":
                continue
            if await self._lives(slot):
                backoff_s = FIRST_BACKOFF_S
            else:
                log.warning("engine %d is dead or hangs; it is started again", slot.index)
                self._metrics.engine_restarts.labels(str(slot.index)).inc()
                slot.state = "down"

    async def _wait_for_a_reason_to_look(self, slot: Slot) -> None:
        try:
            async with asyncio.timeout(LOOK_INTERVAL_S):
                await slot.suspected.wait()
        except TimeoutError:
            pass
        slot.suspected.clear()

    async def _lives(self, slot: Slot) -> bool:
        """False when the engine does not answer, or has chats in flight and does not get on with anything."""
        stalled = slot.in_flight > 0 and time.monotonic() - slot.progress_at > self._settings.hang_timeout_s
        try:
            if stalled:
                # Silent for that long it may still be reading long prompts: a token of its own is the proof.
                await slot.client.write_one_token(PROOF_TIMEOUT_S)
                slot.progress_at = time.monotonic()
            else:
                await slot.client.weight_version(PROOF_TIMEOUT_S)
        except EngineLost:
            return False
        return True
