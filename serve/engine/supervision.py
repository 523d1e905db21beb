"""Keeping the engines alive: started at the beginning, watched by the progress of their tokens, started again with
back-off when dead or hung. Should the last one that serves die, another one takes its version over meanwhile.

vLLM's `/health` stays 200 while its engine hangs, so it is not asked.
"""

import asyncio
import contextlib
import logging
import time

from feedback.errors import Conflict, EngineUnavailable, TandemError
from feedback.schema import version_name
from feedback.settings import EngineSettings
from serve import background
from serve.engine.fence import Fence
from serve.engine.loading import Loader
from serve.engine.policy_folders import PolicyFolders
from serve.engine.pool import Pool
from serve.engine.slot import Slot
from serve.engine.starting import PROOF_TIMEOUT_S, READY_INTERVAL_S, Starter, version_of
from serve.engine.transfer import EngineLost
from serve.metrics import Metrics
from serve.record import RECORD_ERRORS

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
CHANGE_INTERVAL_S = 0.05
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
RESCUE_DRAIN_S = 5.0
STANDSTILL_S = 0.25
# What may go wrong with an engine, with a policy's folder or with the record, and be better the next time.
FAILURES = (TandemError, OSError, *RECORD_ERRORS)


class Supervision:
    """One task for each slot, from `start` to `stop`."""

    def __init__(
        self,
        pool: Pool,
        starter: Starter,
        loader: Loader,
        folders: PolicyFolders,
        fence: Fence,
        settings: EngineSettings,
        metrics: Metrics,
    ) -> None:
        self._pool = pool
        self._fence = fence
        self._starter = starter
        self._loader = loader
        self._folders = folders
        self._settings = settings
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, versions: list[int], adapters: dict[int, int]) -> None:
        """Have slot i hold `versions[i]`, and with it those of `adapters`, version by base, that stand on it."""
        for slot, version in zip(self._pool.slots, versions, strict=True):
            slot.wanted = version
            slot.wanted_adapters = {adapter for adapter, base in adapters.items() if base == version}
            self._tasks.append(background.start(self._keep_alive(slot), f"watching engine {slot.index}"))
        self._tasks.append(background.start(self._listen_for_ends(), "listening for ended engines"))

    async def stop(self) -> None:
        """Stop watching; the engines end with the launcher."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look_for(self, version: int) -> None:
        """Ask each engine that takes chats whether it holds `version`, which another process has proved."""
        for slot in self._pool.slots:
            if slot.state in ("ready", "doubted"):
                try:
                    self._note(slot, await slot.client.weight_version(PROOF_TIMEOUT_S))
                    if version == slot.version or not slot.takes_adapters:
                        continue
                    if version_name(version) in await slot.client.adapters(PROOF_TIMEOUT_S):
                        slot.adapters.add(version)
                        slot.wanted_adapters.add(version)
                except EngineLost:
                    self._pool.suspect(slot)

    async def _keep_alive(self, slot: Slot) -> None:
        await self._wait_for_the_launcher()
        await self._bring_up(slot, adopt=True)
        while True:
            await self._look(slot)
            if slot.state == "down":
                await self._bring_up(slot)

    async def _bring_up(self, slot: Slot, *, adopt: bool = False) -> None:
        """Returns once it is up, however often that has to be tried."""
        backoff_s, left_to = FIRST_BACKOFF_S, ""
        while slot.state == "down":
            try:
                if not await self._started(slot, adopt=adopt):
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
            except Conflict as error:
                if error.message != left_to:
                    log.info("engine %d is left to another process: %s", slot.index, error.message)
                left_to = error.message
                await asyncio.sleep(FIRST_BACKOFF_S)

    async def _look(self, slot: Slot) -> None:
        """Wait for a reason to, then see whether it lives: opened if it does, else it is down."""
        await self._wait_for_a_reason_to_look(slot)
        if slot.being_changed:
            return
        # What it writes is proof enough that it lives, and of its weights: it let the chat in for these, and they
        # do not change while a chat is in flight.
        lives = slot.has_written_within(LOOK_INTERVAL_S) or await self._lives(slot)
        abandoned = lives and slot.suspected.is_set() and await self._is_abandoned(slot)
        if slot.being_changed:
            return
        if abandoned or not lives:
            what = "was left in mid-change" if abandoned else "is dead or hangs"
            log.warning("engine %d %s; it is started again", slot.index, what)
            self._metrics.engine_restarts.labels(str(slot.index)).inc()
            slot.state = "down"
            await self._rescue(slot)
        elif slot.suspected.is_set():
            # Another process changes it: it opens when that is done.
            await asyncio.sleep(CHANGE_INTERVAL_S)
        else:
            self._open(slot)

    async def _started(self, slot: Slot, *, adopt: bool) -> bool:
        assert slot.wanted is not None
        try:
            await self._starter.start(slot, slot.wanted, adopt=adopt)
        except Conflict:
            raise
        except FAILURES as error:
            log.warning("engine %d did not start: %s", slot.index, _said(error))
            return False
        except Exception as error:  # noqa: BLE001 - it may be better the next time; without one nobody starts it
            background.tell(f"engine {slot.index} did not start", error)
            return False
        slot.suspected.clear()
        log.info("engine %d is ready with %s", slot.index, version_name(slot.wanted))
        slot.state = "doubted"
        self._open(slot)
        return True

    def _open(self, slot: Slot) -> None:
        if slot.state == "doubted":
            slot.state = "ready"
            if not self._pool.is_open:
                self._pool.stale.set()
            self._pool.admission.serve_waiting()

    async def _rescue(self, dead: Slot) -> None:
        """Have a living engine take over what served, if only the dead one held it: that is quicker than starting."""
        serving = self._pool.serving
        if serving is None or serving not in dead.versions or self._pool.holders(serving):
            return
        spare = next((slot for slot in self._pool.slots if slot.state == "ready"), None)
        if spare is None:
            return
        swapped = spare.version
        try:
            async with self._fence.held():
                await self._loader.load(spare, await self._folders.of(serving), drain_timeout_s=RESCUE_DRAIN_S)
        except FAILURES as error:
            log.warning("engine %d could not take over %s: %s", spare.index, version_name(serving), _said(error))
            return
        except Exception as error:  # noqa: BLE001 - the dead one is to be started all the same
            background.tell(f"engine {spare.index} could not take over {version_name(serving)}", error)
            return
        log.info("engine %d took over %s", spare.index, version_name(serving))
        dead.wanted = swapped

    async def _wait_for_a_reason_to_look(self, slot: Slot) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(background.next_round(LOOK_INTERVAL_S)):
                await slot.suspected.wait()
        slot.suspected.clear()

    async def _lives(self, slot: Slot, *, again: bool = True) -> bool:
        """False when the engine does not answer, or has chats in flight and does not get on with anything."""
        asked_at = time.monotonic()
        stalled = slot.in_flight > 0 and time.monotonic() - slot.progress_at > self._settings.hang_timeout_s
        try:
            if stalled:
                # Silent for that long it may still be reading long prompts: a token of its own is the proof.
                await slot.client.write_one_token(PROOF_TIMEOUT_S)
                slot.progress_at = time.monotonic()
            else:
                self._note(slot, await slot.client.weight_version(PROOF_TIMEOUT_S))
        except EngineLost:
            # Late by more than that this process, or the machine, stood still: the engine may well have answered. One
            # that hangs must not live for as long as the machine is too busy to be in time.
            is_late = time.monotonic() - asked_at > PROOF_TIMEOUT_S + STANDSTILL_S
            return is_late and again and await self._lives(slot, again=False)
        return True

    async def _is_abandoned(self, slot: Slot) -> bool:
        with contextlib.suppress(*FAILURES):
            return await self._starter.is_abandoned(slot)
        return False

    def _note(self, slot: Slot, name: str) -> None:
        """Another process may have changed what the engine holds, or be about to."""
        if slot.being_changed or slot.version is None or name == version_name(slot.version):
            return
        version = version_of(name)
        if version is None:
            self._pool.suspect(slot)
            return
        slot.version = slot.wanted = version
        slot.adapters, slot.wanted_adapters = set(), set()
        # Perhaps it serves by now.
        self._pool.stale.set()
        log.info("engine %d holds %s by now", slot.index, name)

    async def _listen_for_ends(self) -> None:
        """Look at an engine as soon as its process has ended."""
        while True:
            with contextlib.suppress(EngineUnavailable):
                async for status in self._starter.launcher.watch():
                    if not status.alive and status.slot < len(self._pool.slots):
                        self._pool.suspect(self._pool.slots[status.slot])
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _wait_for_the_launcher(self) -> None:
        """It takes its time to import vLLM."""
        while True:
            try:
                await self._starter.launcher.status()
            except EngineUnavailable:
                await asyncio.sleep(READY_INTERVAL_S)
            else:
                return


def _said(error: Exception) -> str:
    """A database's message may quote what was to be written."""
    return error.message if isinstance(error, TandemError) else type(error).__name__
