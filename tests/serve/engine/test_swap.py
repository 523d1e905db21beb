"""A promotion that there is nothing to do for."""

from pathlib import Path
from typing import Any

import pytest

from feedback.errors import Conflict
from feedback.operating_settings import GateSettings
from feedback.store import policies
from serve.engine.changing import Changing
from serve.engine.pool import Pool
from serve.engine.swap import Change, Promoter
from serve.metrics import Metrics
from serve.record import Record

CHANGE = Change("promote", "test", False, "admin")


async def test_what_serves_is_promoted_at_once_whatever_else_is_under_way(record: Record, tmp_path: Path) -> None:
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    pool = Pool(tmp_path, 2, seats_per_slot=4, max_queued=4)
    no_engines: Any = None
    changing = Changing(record, 30.0)
    promoter = Promoter(pool, no_engines, record, no_engines, no_engines, Metrics(), GateSettings(), changing)
    async with Changing(record, 30.0).asked():
        with pytest.raises(Conflict):
            await promoter.promote(0, CHANGE)
        pool.serving = 0
        assert not (await promoter.promote(0, CHANGE)).changed
