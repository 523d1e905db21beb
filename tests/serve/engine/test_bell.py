"""What one process of a home changes the others hear of at once, without looking again and again."""

import asyncio
from pathlib import Path

from serve.engine.bell import Bell


def test_each_ring_is_heard_once(tmp_path: Path) -> None:
    here, there = Bell(tmp_path), Bell(tmp_path)
    assert not there.heard()
    here.ring()
    assert there.heard() and not there.heard()
    here.ring()
    here.ring()
    assert there.heard() and not there.heard()


async def test_an_event_loop_is_woken_by_a_ring_and_by_nothing_else(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    here, there = Bell(run_dir), Bell(run_dir)
    woken, heard = 0, asyncio.Event()

    def look() -> None:
        nonlocal woken
        woken += 1
        if there.heard():
            heard.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(there.fileno(), look)
    try:
        (run_dir / "engine-0.sock").touch()
        for rings in range(3):
            await asyncio.sleep(0.05)
            assert woken == rings
            here.ring()
            async with asyncio.timeout(5):
                await heard.wait()
            heard.clear()
    finally:
        loop.remove_reader(there.fileno())
        there.close()
