"""The leases of an API process that was killed end when another one of its machine looks; no living one's do."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import serve.engine.presence
from feedback.store import leases, policies, presence
from feedback.store.presence import Here
from serve.engine.life import Life
from serve.engine.pool import Pool
from serve.engine.presence import Presence
from serve.record import Record
from tests.waiting import until

ROOT = Path(__file__).parents[3]
LIVES = """
import sys, time
from pathlib import Path
from serve.engine.life import Life
from tests.waiting import until
life = Life(Path(sys.argv[1]), sys.argv[2])
print("lives", flush=True)
time.sleep(600)
"""


@pytest.fixture
def record(record: Record) -> Record:
    """Of a home with v0."""
    record.store.write(policies.register_start, "policies/v0", "digest", {})
    return record


@pytest.fixture
def killed_and_living(tmp_path: Path, record: Record) -> Iterator[None]:
    """Two processes that serve; one of them is killed."""
    processes = {}
    for process_id in ("api_killed", "api_lives"):
        started = subprocess.Popen(
            [sys.executable, "-c", LIVES, tmp_path / "run", process_id],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert started.stdout is not None and started.stdout.readline() == b"lives\n"
        processes[process_id] = started
        record.store.write(presence.enter, Here(process_id, "host", "engines", 0, [[0]]))
        record.store.write(leases.acquire, process_id, f"asked_1@{process_id}", 600.0)
    processes["api_killed"].kill()
    processes["api_killed"].wait()
    # One that stands still lives.
    processes["api_lives"].send_signal(signal.SIGSTOP)
    yield
    processes["api_lives"].kill()
    for process in processes.values():
        process.communicate()


@pytest.mark.parametrize("when", ["at its start", "later"])
async def test_who_looks_ends_the_leases_of_those_that_are_gone(
    tmp_path: Path, record: Record, killed_and_living: None, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Presence(record, Pool(tmp_path, 1, seats_per_slot=1, max_queued=1), "engines", tmp_path / "run")
    if when == "at its start":
        await own.end_leases_of_the_dead()
    else:
        monkeypatch.setattr(serve.engine.presence, "RENEW_INTERVAL_S", 0.05)
        looking = asyncio.create_task(own.run())
        await until(lambda: not (tmp_path / "run" / "api" / "api_killed").exists())
        looking.cancel()
    assert record.store.read(leases.holder, "api_killed") is None
    assert record.store.read(leases.holder, "api_lives") == "asked_1@api_lives"
    assert [one.id for one in record.store.read(presence.who_serves)] == ["api_lives"]
    assert sorted(path.name for path in (tmp_path / "run" / "api").iterdir()) == [own.id, "api_lives"]
    assert own.life.is_shared()
    await own.stop()
    assert [path.name for path in (tmp_path / "run" / "api").iterdir()] == ["api_lives"]


def test_a_process_is_not_its_own_dead(tmp_path: Path) -> None:
    life = Life(tmp_path, "api_own")
    assert life.ended() == [] and not life.is_shared()
    life.end()


def test_one_that_starts_is_not_taken_for_gone(tmp_path: Path) -> None:
    """Whose file is forgotten lives unseen by the others, who would do with their engines as if they were alone."""
    own, all_started = Life(tmp_path, "api_own"), threading.Event()

    def forget_the_dead() -> None:
        while not all_started.is_set():
            for process_id in own.ended():
                own.forget(process_id)

    other = threading.Thread(target=forget_the_dead)
    other.start()
    try:
        for number in range(1000):
            started = Life(tmp_path, f"api_{number}")
            assert (tmp_path / "api" / f"api_{number}").exists()
            started.end()
    finally:
        all_started.set()
        other.join()
        own.end()
