"""Adapters in an engine: loaded beside what it holds, under the name of their version, while it writes on.

A name is never given to other weights: a version is immutable, and its digest was checked before it came here.
"""

import logging
from pathlib import Path

import orjson

from feedback.errors import EngineUnavailable, TandemError
from feedback.schema import version_name
from feedback.settings import EngineSettings
from serve.engine.policy_folders import PolicyFolder, PolicyFolders
from serve.engine.pool import Pool
from serve.engine.proof import prove
from serve.engine.slot import Slot
from serve.engine.transfer import EngineLost
from serve.engine.zero_adapter import write_zero_adapter

log = logging.getLogger(__name__)


class Adapters:
    """What a slot's engine has of them."""

    def __init__(self, pool: Pool, folders: PolicyFolders, run_dir: Path, settings: EngineSettings) -> None:
        self._pool = pool
        self._folders = folders
        self._run_dir = run_dir
        self._settings = settings

    async def add(self, slot: Slot, policy: PolicyFolder) -> None:
        """Have the engine, which holds the base, serve the adapter as well. Chats go on meanwhile.

        Raises PolicyInvalid, EngineLost, EngineUnavailable; the adapter is not there then.
        """
        name = version_name(policy.version)
        if policy.version in slot.adapters:
            return
        timeout_s = self._settings.swap_timeout_s
        present = await slot.client.adapters(timeout_s)
        if name not in present:
            await self._make_room(slot, present)
            await slot.client.load_adapter(name, policy.folder, timeout_s)
        try:
            await prove(slot.client, await self._folders.probes(policy), self._settings, name)
        except TandemError:
            await self._unload(slot, name)
            raise
        slot.adapters.add(policy.version)
        slot.wanted_adapters.add(policy.version)
        log.info("engine %d holds the adapter %s", slot.index, name)

    async def serve_base(self, slot: Slot, base: PolicyFolder) -> None:
        """Have the engine, which has no adapter, serve its base by one that changes nothing. Raises EngineLost."""
        if not slot.takes_adapters:
            return
        folder = self._run_dir / "adapters" / base.digest[:16]
        tensors = orjson.loads((base.folder / "manifest.json").read_bytes())["tensors"]
        write_zero_adapter(folder, tensors)
        await slot.client.load_adapter(version_name(base.version), folder, self._settings.swap_timeout_s)

    async def remove_all(self, slot: Slot) -> None:
        """The base is about to change. Raises EngineLost."""
        if slot.takes_adapters:
            slot.adapters.clear()
            for name in await slot.client.adapters(self._settings.swap_timeout_s):
                await slot.client.unload_adapter(name, self._settings.swap_timeout_s)

    async def restore(self, slot: Slot) -> None:
        """After a start, or in an engine that was found: those that are wanted. Raises as `add`."""
        slot.adapters.clear()
        for version in sorted(slot.wanted_adapters):
            policy = await self._folders.of(version)
            if policy.base is not None and policy.base.version == slot.wanted:
                await self._folders.verify(policy)
                await self.add(slot, policy)
            else:
                slot.wanted_adapters.discard(version)

    async def _make_room(self, slot: Slot, present: set[str]) -> None:
        """Unload the oldest that neither serves nor challenges, if there are as many as the engine takes."""
        base = slot.wanted if slot.version is None else slot.version
        assert base is not None
        adapters = present - {version_name(base)}
        if len(adapters) < self._settings.adapters:
            return
        kept = {self._pool.serving, self._pool.shares.challenger}
        names = {version_name(version) for version in kept if version is not None}
        doomed = sorted(adapters - names, key=lambda name: int(name[1:]))
        if not doomed:
            raise EngineUnavailable(
                f"engine {slot.index} holds as many adapters as it takes, and all of them serve: raise engine.adapters"
            )
        await self._unload(slot, doomed[0])

    async def _unload(self, slot: Slot, name: str) -> None:
        version = int(name[1:])
        slot.adapters.discard(version)
        slot.wanted_adapters.discard(version)
        try:
            await slot.client.unload_adapter(name, self._settings.swap_timeout_s)
        except EngineLost as error:
            log.warning("engine %d did not unload %s: %s", slot.index, name, error.message)
