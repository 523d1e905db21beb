"""A client that goes away while its answer begins, at whatever moment."""

import asyncio
from typing import Any

import pytest

from serve.chat.answering import _begins
from serve.chat.completions import ReplyTimedOut


class Completion:
    """Begins when it is told to."""

    def __init__(self) -> None:
        self.may_begin = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        await self.may_begin


@pytest.fixture
async def completion() -> Any:
    return Completion()


async def test_a_client_that_leaves_ends_what_has_not_begun_and_nothing_breaks(completion: Any) -> None:
    failures: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    for order, begun in (("begins", True), ("leaves", False), ("begins, leaves", True), ("leaves, begins", True)):
        completion.may_begin, gone = loop.create_future(), loop.create_future()
        beginning = asyncio.create_task(_begins(completion, gone, 60))
        await asyncio.sleep(0)
        # Both in the same turn of the loop.
        for what in order.split(", "):
            (completion.may_begin if what == "begins" else gone).set_result(None)
        assert await beginning is begun, order
        await asyncio.sleep(0)
    assert failures == []


async def test_what_takes_too_long_is_ended(completion: Any) -> None:
    with pytest.raises(ReplyTimedOut):
        await _begins(completion, asyncio.get_running_loop().create_future(), 0.01)
