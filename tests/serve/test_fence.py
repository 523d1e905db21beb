"""Two API processes never change what the engines hold at once."""

from pathlib import Path

import pytest

from feedback.errors import Conflict, LeaseLost
from feedback.store import Store, leases
from serve.engine.fence import TTL_S, Fence
from serve.record import Record


async def test_one_at_a_time_and_the_loser_cannot_write(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    store.migrate()
    record = Record(store)
    one, other = Fence(record), Fence(record)
    async with one.held():
        with pytest.raises(Conflict):
            async with other.held():
                raise AssertionError("two hold it")
    async with other.held() as first:
        # The lease runs out under a process that was stopped, and another one takes it.
        store.write(leases.release, leases.ENGINES, first)
        async with one.held() as second:
            assert second > first
            with pytest.raises(LeaseLost):
                store.write(leases.check, leases.ENGINES, first)
            store.write(leases.renew, leases.ENGINES, second, TTL_S)
    record.close()
