"""What is not to serve after all leaves the engines as they were."""

from pathlib import Path
from typing import Any

import pytest

from feedback.adapters import Base
from feedback.errors import PolicyInvalid
from feedback.settings import EngineSettings
from serve.engine.bell import Bell
from serve.engine.flipping import Flipping
from serve.engine.policy_folders import PolicyFolder
from serve.engine.pool import Pool
from serve.engine.slot import Slot
from serve.metrics import Metrics


class LoadsBasesOnly:
    """In the place of what drives engines: an adapter's base is loaded, and then the adapter is a wrong one."""

    async def load(self, slot: Slot, policy: PolicyFolder, **_: Any) -> None:
        slot.version = policy.version if policy.base is None else policy.base.version
        if policy.base is not None:
            raise PolicyInvalid("this is not the adapter that was published")

    async def drop_staged(self) -> None:
        """Nothing is."""


class Folders:
    async def of(self, version: int) -> PolicyFolder:
        return PolicyFolder(version, Path(f"v{version}"), "digest")


async def test_an_engine_whose_base_was_changed_for_an_adapter_in_vain_gets_its_own_back(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 2, seats_per_slot=4, max_queued=4, take_adapters=True)
    for slot, version in zip(pool.slots, (2, 1), strict=True):
        slot.state, slot.version, slot.wanted = "ready", version, version
    pool.serving = 2
    flipping = Flipping(pool, LoadsBasesOnly(), Folders(), EngineSettings(), Bell(tmp_path), Metrics())  # type: ignore[arg-type]
    adapter = PolicyFolder(3, Path("v3"), "digest", Base(0, "digest"))
    with pytest.raises(PolicyInvalid):
        await flipping.load(adapter)
    assert [slot.version for slot in pool.slots] == [2, 1] and pool.prepared is None
