"""What is not to serve after all leaves the engines as they were."""

from pathlib import Path
from typing import Any

import pytest

from feedback.adapters import Base
from feedback.errors import PolicyInvalid
from feedback.settings import EngineSettings
from serve.engine.bell import Bell
from serve.engine.flipping import Flipping, Loaded
from serve.engine.loading import Loader
from serve.engine.policy_folders import PolicyFolder
from serve.engine.pool import Pool
from serve.engine.slot import Slot
from serve.metrics import Metrics


class LoadsBasesOnly(Loader):
    """An adapter's base is loaded, without any engine, and then the adapter is a wrong one."""

    async def load(self, slot: Slot, policy: PolicyFolder, **_: Any) -> None:
        slot.version = slot.wanted = policy.version if policy.base is None else policy.base.version
        slot.adapters, slot.wanted_adapters = set(), set()
        if policy.base is not None:
            raise PolicyInvalid("this is not the adapter that was published")


class Adapters:
    async def restore(self, slot: Slot) -> None:
        slot.adapters = set(slot.wanted_adapters)


class Folders:
    async def of(self, version: int) -> PolicyFolder:
        return PolicyFolder(version, Path(f"v{version}"), "digest")


async def test_an_engine_whose_base_was_changed_for_an_adapter_in_vain_gets_its_own_back(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2, seats_per_slot=4, max_queued=4, take_adapters=True)
    for slot, version in zip(pool.slots, (2, 1), strict=True):
        slot.state, slot.version, slot.wanted = "ready", version, version
    pool.slots[1].adapters, pool.slots[1].wanted_adapters = {5}, {5}
    pool.serving = 2
    folders: Any = Folders()
    parts: Any = Adapters()
    loader = LoadsBasesOnly(pool, None, folders, parts, EngineSettings(), Metrics())  # type: ignore[arg-type]
    flipping = Flipping(pool, loader, folders, EngineSettings(), Bell(tmp_path), Metrics())
    adapter = PolicyFolder(3, Path("v3"), "digest", Base(0, "digest"))
    with pytest.raises(PolicyInvalid):
        await flipping.load(adapter)
    assert [slot.version for slot in pool.slots] == [2, 1] and pool.prepared is None
    assert pool.slots[1].adapters == pool.slots[1].wanted_adapters == {5}


class Unreadable:
    async def of(self, version: int) -> PolicyFolder:
        raise OSError("no space left on device")


async def test_an_engine_that_cannot_be_put_back_is_started_again(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 1, seats_per_slot=4, max_queued=4)
    slot = pool.slots[0]
    slot.state, slot.version, slot.wanted = "held", 1, 1
    folders: Any = Unreadable()
    loader = Loader(pool, None, folders, None, EngineSettings(), Metrics())  # type: ignore[arg-type]
    flipping = Flipping(pool, loader, folders, EngineSettings(), Bell(tmp_path), Metrics())
    await flipping.put_back(Loaded(PolicyFolder(1, Path("v1"), "digest"), slot, held_before=0, in_place=True))
    assert slot.state == "down" and slot.wanted == 0 and slot.suspected.is_set()
