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


class Counting(Bell):
    looks = 0

    def heard(self) -> bool:
        self.looks += 1
        return super().heard()


async def test_an_event_loop_is_woken_by_a_ring_and_by_nothing_else(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    here, there, heard = Bell(run_dir), Counting(run_dir), asyncio.Event()
    there.listen(heard.set)
    (run_dir / "engine-0.sock").touch()
    for rings in range(3):
        await asyncio.sleep(0.05)
        assert there.looks == rings
        here.ring()
        async with asyncio.timeout(30):
            await heard.wait()
        heard.clear()
    there.close()
    here.ring()
    await asyncio.sleep(0.05)
    assert not heard.is_set()


async def test_who_never_listened_opens_nothing_to_close(tmp_path: Path) -> None:
    Bell(tmp_path / "run").close()
    assert not (tmp_path / "run").exists()
