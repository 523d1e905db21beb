"""What an engine's process says in its log of failures that nobody waited for."""

import asyncio
import gc

import pytest

from serve.engine.server import name_failure


async def test_a_failure_that_nobody_waited_for_is_named_and_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    """A reply to someone who has left fails by words that may be theirs."""
    asyncio.get_running_loop().set_exception_handler(name_failure)

    async def fail() -> None:
        raise ValueError("not: xyzzy")

    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == ["Task exception was never retrieved: ValueError"]
    assert "xyzzy" not in caplog.text
