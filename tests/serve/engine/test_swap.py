"""A promotion that there is nothing to do for, and one that the end of its process cuts off."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feedback.errors import Conflict
from feedback.operating_settings import GateSettings
from feedback.schema import Policy
from feedback.store import leases, policies
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
    changing = Changing(record, "api_1", 30.0)
    promoter = Promoter(pool, no_engines, record, no_engines, no_engines, Metrics(), GateSettings(), changing)
    async with Changing(record, "api_1", 30.0).asked():
        with pytest.raises(Conflict):
            await promoter.promote(0, CHANGE)
        pool.serving = 0
        assert not (await promoter.promote(0, CHANGE)).changed


@pytest.mark.parametrize("when", ["before", "made", "lease lost"])
async def test_one_that_is_cut_off_is_in_the_record_as_what_it_was(record: Record, tmp_path: Path, when: str) -> None:
    record.store.write(policies.register_start, "policies/v0", "d" * 64, {})
    record.store.write(lambda session: session.add(candidate()))
    put_back, write = list[Any](), record.write

    async def cut_off(*_: Any) -> Any:
        if when == "lease lost":
            record.store.write(
                lambda session: leases.revoke(lease := leases.lock(session, leases.ENGINES), lease.epoch)
            )
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def write_and_be_cut_off(operation: Any, *args: Any) -> Any:
        written = await write(operation, *args)
        if operation.__name__ == "_set_serving":
            await cut_off()
        return written

    async def found(what: Any) -> Any:
        return SimpleNamespace(policy=SimpleNamespace(version=1))

    async def take_back(loaded: Any) -> None:
        put_back.append(loaded)

    engines: Any = SimpleNamespace(prepare=found, load=found if when == "made" else cut_off, put_back=take_back)
    others: Any = SimpleNamespace(withdraw=found)
    own: Any = SimpleNamespace(others=0, id="api_1")
    pool, changing = Pool(tmp_path, 1, seats_per_slot=4, max_queued=4), Changing(record, "api_1", 30.0)
    pool.serving = 0
    promoter = Promoter(pool, engines, record, own, others, Metrics(), GateSettings(), changing)
    record.write = write_and_be_cut_off  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await promoter.promote(1, Change("promote", "test", True, "admin"))
    assert len(put_back) == 1
    serving = record.store.read(policies.serving)
    assert serving is not None and serving.version == (1 if when == "made" else 0)
    attempts = record.store.read(policies.promotions, 1)
    # Who has lost the lease writes nothing more.
    outcomes = {"before": ["failed"], "made": ["succeeded"], "lease lost": []}[when]
    assert [attempt.outcome for attempt in attempts] == outcomes
    if when == "before":
        assert "ended" in (attempts[0].detail or "")


def candidate() -> Policy:
    return Policy(
        version=1, state="candidate", parent=0, path="policies/v1", digest="e" * 64, iteration_id="itr_1",
        dataset_digest=None, settings={}, seed=0, evidence={}, created_at=1.0,
    )  # fmt: skip
