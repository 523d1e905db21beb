"""Two API processes never change what the engines hold at once."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DatabaseError

from feedback.errors import Conflict, LeaseLost, RecordUnavailable
from feedback.store import Store, leases
from serve.engine import fence
from serve.engine.fence import TTL_S, Fence
from serve.record import Record
from tests.records import empty_record
from tests.waiting import until


async def test_one_at_a_time_and_the_loser_cannot_write(tmp_path: Path) -> None:
    store = empty_record(tmp_path / "record.db")
    record = Record(store)
    one, other = Fence(record, "api_1"), Fence(record, "api_1")
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


AWAY = [RecordUnavailable("the database is not there"), DatabaseError("", None, Exception("it is malformed"))]


class AwayForAMoment(Record):
    """The database cannot be reached for the first renewal."""

    renewals = 0

    def __init__(self, store: Store, error: Exception) -> None:
        super().__init__(store)
        self.error = error

    async def write(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is leases.renew:
            self.renewals += 1
            if self.renewals == 1:
                raise self.error
        return await super().write(operation, *args, **kwargs)


@pytest.mark.parametrize("error", AWAY)
async def test_a_lease_is_renewed_again_when_the_record_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(fence, "RENEW_INTERVAL_S", 0.02)
    store = empty_record(tmp_path / "record.db")
    record = AwayForAMoment(store, error)
    async with Fence(record, "api_1").held():
        await until(lambda: record.renewals >= 3)
    record.close()


class AwayAtTheEnd(Record):
    """The database goes away while the lease is held."""

    def __init__(self, store: Store, error: Exception) -> None:
        super().__init__(store)
        self.error = error

    async def write(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation is leases.release:
            raise self.error
        return await super().write(operation, *args, **kwargs)


@pytest.mark.parametrize("error", AWAY)
async def test_what_was_done_under_a_lease_that_cannot_be_given_back_is_done(tmp_path: Path, error: Exception) -> None:
    store = empty_record(tmp_path / "record.db")
    record = AwayAtTheEnd(store, error)
    async with Fence(record, "api_1").held():
        pass
    with pytest.raises(ValueError, match="its own"):
        async with Fence(record, "api_1", "another").held():
            raise ValueError("its own")
    record.close()
