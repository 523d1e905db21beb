"""Whether an engine lives, as whoever watches it finds out."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feedback.settings import EngineSettings
from serve.engine import supervision
from serve.engine.loading import Loader
from serve.engine.policy_folders import PolicyFolder
from serve.engine.pool import Pool
from serve.engine.supervision import Supervision
from serve.metrics import Metrics

# Of the watch with an engine that answers: it is used up only where the clock is moved.
PATIENCE_S = 60.0
SOON_S = 0.1
LAST = b"last"
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{"weight_version":"v0"}'


class Engine:
    """Says on its socket what it holds, as soon as it is asked; or nothing at all while it `hangs`."""

    def __init__(self, path: Path) -> None:
        self.asked = 0
        self.hangs = False
        self._counted = threading.Event()
        self._path = str(path)
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
            if connection.recv(65_536) == LAST:
                self._counted.set()
                continue
            hangs = self.hangs
            self.asked += 1
            if not hangs:
                connection.sendall(ANSWER)

    def asked_in_all(self) -> int:
        """By now, though it may take its time to see it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._path)
            connection.sendall(LAST)
            assert self._counted.wait(PATIENCE_S)
        return self.asked

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


async def test_an_engine_that_answered_while_this_process_stood_still_lives(
    engine: Engine, watch: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.hangs = True
    asking = asyncio.create_task(watch._lives(watch._pool.slots[0]))
    while not engine.asked and not asking.done():
        await asyncio.sleep(0)
    engine.hangs = False
    # As after SIGSTOP and SIGCONT, or on a machine that was paused.
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + 2 * PATIENCE_S)
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 2 * PATIENCE_S))
    assert await asking
    assert engine.asked_in_all() == 2


async def test_one_that_hangs_is_not_asked_twice(
    engine: Engine, watch: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PROOF_TIMEOUT_S", SOON_S)
    # However busy the machine is.
    monkeypatch.setattr(supervision, "STANDSTILL_S", 30.0)
    engine.hangs = True
    assert not await watch._lives(watch._pool.slots[0])
    assert engine.asked_in_all() == 1


async def test_one_that_hangs_on_a_machine_that_is_always_late_is_asked_twice(
    engine: Engine, watch: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PROOF_TIMEOUT_S", SOON_S)
    monkeypatch.setattr(supervision, "STANDSTILL_S", -SOON_S)
    engine.hangs = True
    assert not await watch._lives(watch._pool.slots[0])
    assert engine.asked_in_all() == 2


async def test_one_that_cannot_be_reached_does_not_live(engine: Engine, watch: Supervision) -> None:
    engine.close()
    assert not await watch._lives(watch._pool.slots[0])


@pytest.mark.parametrize("error", [None, KeyError("what nobody has thought of")])
async def test_an_engine_that_is_found_dead_as_well_takes_nothing_over_and_keeps_what_it_is_to_hold(
    tmp_path: Path, error: Exception | None
) -> None:
    pool = Pool(tmp_path, 2, seats_per_slot=1, max_queued=1)
    spare, dead = pool.slots
    spare.state, spare.version, spare.wanted, dead.version, dead.wanted, pool.serving = "ready", 0, 0, 1, 1, 1
    policy = PolicyFolder(1, tmp_path, "digest")

    @contextlib.asynccontextmanager
    async def held() -> AsyncIterator[None]:
        # Meanwhile the spare one's own watch finds it dead, and begins to start it.
        spare.state, spare.version = "down", None
        yield

    async def found(_: object) -> PolicyFolder:
        if error is not None:
            raise error
        return policy

    folders: Any = SimpleNamespace(of=found, base_of=found)
    nothing: Any = None
    loader = Loader(pool, nothing, folders, nothing, EngineSettings(), Metrics())
    fence: Any = SimpleNamespace(held=held)
    await Supervision(pool, nothing, loader, folders, fence, EngineSettings(), Metrics())._rescue(dead)
    assert (spare.state, spare.wanted, dead.wanted) == ("down", 0, 1)


class Startable:
    """An engine that starts at the second try; what the first meets, nobody has thought of."""

    launcher: Any

    def __init__(self) -> None:
        self.tries = 0
        self.launcher = SimpleNamespace(status=self._status)

    async def start(self, slot: Any, version: int, *, adopt: bool) -> None:
        self.tries += 1
        if self.tries == 1:
            raise KeyError("tensors")

    async def _status(self) -> None:
        return None


async def test_a_failure_that_nobody_has_thought_of_does_not_end_the_watch(
    engine: Engine, watch: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "FIRST_BACKOFF_S", 0.0)
    slot, startable = watch._pool.slots[0], Startable()
    slot.state, slot.wanted = "down", 0
    watch._starter = startable  # type: ignore[assignment]
    watching = asyncio.create_task(watch._keep_alive(slot))
    while not watch._pool.holders(0) and not watching.done():
        await asyncio.sleep(0)
    assert (startable.tries, watch._pool.loaded()) == (2, [0])
    watching.cancel()
    await asyncio.wait([watching])
