"""What is asked for is refused while another such change is made, and waits for what is done in passing."""

import asyncio

import pytest

from feedback.errors import Conflict
from serve.engine.changing import Changing


async def ask(changing: Changing, done: list[str]) -> None:
    async with changing.claimed():
        done.append("asked")


async def test_one_at_a_time_is_asked_for() -> None:
    changing, done = Changing(), list[str]()
    async with changing.claimed():
        assert changing.busy
        with pytest.raises(Conflict):
            await ask(changing, done)
    await ask(changing, done)
    assert done == ["asked"] and not changing.busy


async def test_it_waits_for_what_is_done_in_passing_and_a_second_one_is_refused_meanwhile() -> None:
    changing, done = Changing(), list[str]()
    async with changing.in_passing():
        waiting = asyncio.create_task(ask(changing, done))
        await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await ask(changing, done)
        done.append("in passing")
    await waiting
    assert done == ["in passing", "asked"]


async def test_who_takes_part_waits_and_lets_others_wait_once_the_change_is_made() -> None:
    changing, done = Changing(), list[str]()
    async with changing.claimed():
        taking_part = changing.claimed(wait=True)
        entering = asyncio.create_task(taking_part.__aenter__())
        await asyncio.sleep(0)
        assert not entering.done()
    claim = await entering
    with pytest.raises(Conflict):
        await ask(changing, done)
    claim.settle()
    waiting = asyncio.create_task(ask(changing, done))
    await asyncio.sleep(0)
    assert done == []
    await taking_part.__aexit__(None, None, None)
    await waiting
    assert done == ["asked"]
