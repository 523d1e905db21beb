"""What goes on in one API process beside its requests."""

import asyncio
from pathlib import Path

from feedback.settings import load_settings
from feedback.store import Store, leases
from serve.gateway import Gateway
from tests.waiting import until


async def test_the_end_waits_until_what_was_to_be_promoted_is_put_back(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    gateway, put_back = Gateway(settings), list[str]()
    await gateway.start()

    async def promote() -> None:
        async with gateway._changing.asked():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.3)
                put_back.append("put back")

    promoting = asyncio.create_task(promote())
    await until(lambda: gateway._changing.busy)
    # As the server does when the drain has taken too long.
    promoting.cancel()
    await gateway.stop()
    assert put_back == ["put back"] and promoting.cancelled()
    store = Store(settings.record_url)
    assert not store.read(leases.held, leases.ENGINES)
    store.close()
