"""Whether an engine lives, as whoever watches it finds out."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback.settings import EngineSettings
from serve.engine import supervision
from serve.engine.pool import Pool
from serve.engine.supervision import Supervision
from serve.metrics import Metrics

PATIENCE_S = 0.3
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{"weight_version":"v0"}'


class Engine:
    """Says on its socket what it holds, as soon as it is asked; or nothing at all while it `hangs`."""

    def __init__(self, path: Path) -> None:
        self.asked = 0
        self.hangs = False
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            connection.recv(65_536)
            self.asked += 1
            if not self.hangs:
                connection.sendall(ANSWER)

    def close(self) -> None:
        # Closing alone does not wake who waits for the next connection.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for one in [self._server, *self._open]:
            one.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "engine-0.sock")
    yield engine
    engine.close()


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervision:
    """Of one slot that holds v0."""
    monkeypatch.setattr(supervision, "PROOF_TIMEOUT_S", PATIENCE_S)
    pool = Pool(tmp_path, 1, seats_per_slot=1, max_queued=1)
    pool.slots[0].state, pool.slots[0].version = "ready", 0
    nothing: Any = None
    return Supervision(pool, nothing, nothing, nothing, nothing, EngineSettings(), Metrics())


async def test_an_engine_that_answered_while_this_process_stood_still_lives(engine: Engine, watch: Supervision) -> None:
    asking = asyncio.create_task(watch._lives(watch._pool.slots[0]))
    while not engine.asked:
        await asyncio.sleep(0)
    # As after SIGSTOP and SIGCONT, or on a machine that was paused.
    time.sleep(3 * PATIENCE_S)
    assert await asking


async def test_one_that_hangs_is_not_asked_twice(
    engine: Engine, watch: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is.
    monkeypatch.setattr(supervision, "STANDSTILL_S", 30.0)
    engine.hangs = True
    assert not await watch._lives(watch._pool.slots[0])
    assert engine.asked == 1


async def test_one_that_hangs_on_a_machine_that_is_always_late_is_asked_twice(
    engine: Engine, watch: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STANDSTILL_S", -supervision.PROOF_TIMEOUT_S)
    engine.hangs = True
    assert not await watch._lives(watch._pool.slots[0])
    assert engine.asked == 2


async def test_one_that_cannot_be_reached_does_not_live(engine: Engine, watch: Supervision) -> None:
    engine.close()
    assert not await watch._lives(watch._pool.slots[0])
