"""What one process of a home changes the others hear of at once, without looking again and again."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_what_was_changed_stands_even_where_the_others_cannot_be_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = Bell(tmp_path), Bell(tmp_path)
    (tmp_path / "changed").mkdir()
    there.heard()
    here.ring()
    assert not there.heard()
    assert "not told" in caplog.text


def test_many_ring_at_once(tmp_path: Path) -> None:
    rings = "import os, pathlib, socket, sys; from serve.engine.bell import Bell\n"
    rings += "os.getpid, socket.gethostname = lambda: int(sys.argv[2]), lambda: sys.argv[3]\n"
    rings += "bell = Bell(pathlib.Path(sys.argv[1]))\nfor _ in range(500): bell.ring()"
    who = (("7", "host"), ("8", "host"), ("8", "container"))
    ringing = [
        subprocess.Popen([sys.executable, "-c", rings, str(tmp_path), *one], stderr=subprocess.PIPE) for one in who
    ]
    assert [process.communicate()[1] for process in ringing] == [b""] * len(who)
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]
