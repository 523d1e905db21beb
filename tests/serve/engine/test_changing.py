"""What is asked for is refused while another such change is under way, and waits for what nobody asked for here."""

import asyncio

import pytest

from feedback.errors import Conflict, EngineUnavailable
from feedback.store import leases
from serve.engine.changing import Changing
from serve.record import Record
from tests.waiting import until

PATIENCE_S = 30.0


async def ask(changing: Changing, done: list[str]) -> None:
    async with changing.asked():
        done.append("asked")


def is_leased(record: Record) -> bool:
    return record.store.read(leases.held, leases.ENGINES)


async def test_one_at_a_time_is_asked_for_here_or_through_another_process(record: Record) -> None:
    changing, other, done = Changing(record, "api_1", PATIENCE_S), Changing(record, "api_2", PATIENCE_S), list[str]()
    async with changing.asked():
        assert changing.busy
        for process in (changing, other):
            with pytest.raises(Conflict):
                await ask(process, done)
    await ask(other, done)
    await ask(changing, done)
    assert done == ["asked"] * 2 and not changing.busy and not is_leased(record)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_it_waits_for_what_is_done_in_passing_and_a_second_one_is_refused_meanwhile(
    record: Record, where: str
) -> None:
    changing, done = Changing(record, "api_1", PATIENCE_S), list[str]()
    async with (changing if where == "here" else Changing(record, "api_1", PATIENCE_S)).in_passing():
        waiting = asyncio.create_task(ask(changing, done))
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await ask(changing, done)
        done.append("in passing")
    await waiting
    assert done == ["in passing", "asked"]


async def test_who_takes_part_in_a_change_that_is_under_way_refuses_and_afterwards_has_others_wait(
    record: Record,
) -> None:
    leader, changing, done = Changing(record, "api_1", PATIENCE_S), Changing(record, "api_2", PATIENCE_S), list[str]()
    async with changing.taking_part():
        async with leader.asked():
            with pytest.raises(Conflict):
                await ask(changing, done)
        # It was not made; what this process has prepared is still to be put back.
        waiting = asyncio.create_task(ask(changing, done))
        await until(lambda: is_leased(record))
        await asyncio.sleep(0)
        done.append("put back")
    await waiting
    assert done == ["put back", "asked"]


async def test_nobody_waits_for_ever_and_leaves_the_lease_to_others(record: Record) -> None:
    changing, done = Changing(record, "api_1", 0.2), list[str]()
    async with changing.taking_part():
        with pytest.raises(EngineUnavailable):
            await ask(changing, done)
        assert not is_leased(record)
    await ask(changing, done)
    assert done == ["asked"]
