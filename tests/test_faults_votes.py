"""Promise 1, held against real kills: no acknowledged vote is lost or counted twice.

`python -m tests.test_faults_votes --kills 200 --seed 3` runs it longer and prints what happened.
"""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback.queue import COUNT_VOTES, SOCKET_TIMEOUT_S, make_celery, send
from feedback.settings import load_settings
from feedback.store import Store, keys, votes
from tests.feedback.conftest import postgres  # noqa: F401
from tests.feedback.record import add_comparison
from tests.vote_ledger import PATIENCE_S, Balance, Ledger, Voter, balance
from tests.vote_stack import VoteStack
from tests.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

COMPARISONS = 60
VOTERS = 6
DRAINED_WITHIN_S = 60.0
# How often each fault is drawn. Stops are no kills and are counted apart.
FAULTS = {
    "kill worker": 5, "kill worker's main process": 3, "kill worker's child": 4, "kill api": 5, "kill redis": 3,
    "kill and wipe redis": 3, "kill scheduler": 2, "stop redis": 2, "stop worker": 1,
}  # fmt: skip


class Home:
    """A home with pairs to vote on and the key to vote with."""

    voters_are = "voter"

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self.folder = folder / "home"
        self.database_url = database_url
        settings = load_settings(home=self.folder, database_url=database_url)
        self.store = Store(settings.record_url)
        self.store.migrate()
        key, self.secret = self.store.write(keys.create, "vote")
        self.comparisons = [add_comparison(self.store, key_id=key.id) for _ in range(COMPARISONS)]

    def voters(self, url: str, ledger: Ledger, seed: int, pause_s: float) -> list[Voter]:
        return [Voter(f"{self.voters_are}-{n}", url, self.secret, ledger, seed, pause_s) for n in range(VOTERS)]

    def uncounted(self) -> int:
        return self.store.read(votes.count_by_state).get("accepted", 0)

    def drain(self) -> float:
        """Wait until every vote is counted. Returns the seconds it took."""
        began = time.monotonic()
        while self.uncounted():
            assert time.monotonic() - began < DRAINED_WITHIN_S, f"{self.uncounted()} votes are still not counted"
            time.sleep(0.1)
        return time.monotonic() - began


@contextlib.contextmanager
def voting(home: Home, url: str, ledger: Ledger, seed: int, pause_s: float = 0.01) -> Iterator[None]:
    """Voters at work in a thread of their own, until the block ends."""
    loop, stop, failed = asyncio.new_event_loop(), asyncio.Event(), []

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for voter in home.voters(url, ledger, seed, pause_s):
                group.create_task(voter.vote_until(stop, home.comparisons))

    def run() -> None:
        try:
            loop.run_until_complete(work())
        except ExceptionGroup as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=120)
        loop.close()
    if failed:
        raise failed[0]


def strike(stack: VoteStack, fault: str, rng: random.Random) -> bool:
    """Do it. False when there was nothing to hit, such as an API process that is still starting."""
    verb, _, target = fault.partition(" ")
    if verb == "stop":
        stack.pause(target, rng.uniform(1, 4))
    elif target == "and wipe redis":
        stack.wipe_redis()
    elif target == "worker's main process":
        stack.kill_main_process("worker")
    elif target == "worker's child":
        return stack.kill_a_child("worker")
    elif target == "api" and not stack.answers():
        return False
    else:
        stack.restart(target)
    return True


def storm(home: Home, kills: int, seed: int) -> tuple[dict[str, Any], Balance]:
    """Vote while processes are killed. Returns what happened, and the balance afterwards."""
    rng, ledger, struck = random.Random(seed), Ledger(), Counter[str]()
    with VoteStack(home.folder, home.database_url) as stack:
        stack.wait_until_it_answers()
        with voting(home, stack.url, ledger, seed):
            while sum(count for fault, count in struck.items() if fault.startswith("kill")) < kills:
                time.sleep(rng.uniform(0.2, 1.2))
                if rng.random() < 0.5:
                    # Half of the faults meet a whole stack, the others one that is still coming up.
                    stack.wait_until_it_answers()
                    time.sleep(rng.uniform(0.2, 1.2))
                fault = rng.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
                struck[fault] += strike(stack, fault, rng)
            last_fault = time.monotonic()
            stack.wait_until_it_answers()
        home.drain()
        drained_s = time.monotonic() - last_fault
        found = balance(home.store, ledger)
    happened = {
        "kills": sum(count for fault, count in struck.items() if fault.startswith("kill")),
        "faults": dict(struck),
        "acknowledged": ledger.acknowledged,
        "votes": len(ledger.entries),
        "sent_again": ledger.unsure,
        "drained_s": round(drained_s, 1),
        "lost": len(found.lost),
        "double": len(found.double_revisions) + len(found.double_counts) + len(found.tallies_off),
    }
    return happened, found


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_acknowledged_vote_is_lost_or_counted_twice(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").new_database() if database == "postgres" else None
    happened, found = storm(Home(tmp_path, url), kills=50, seed=20260414)
    print(happened)
    assert happened["kills"] >= 50
    assert found.even, found
    assert happened["drained_s"] < DRAINED_WITHIN_S
    # The storm must not have been over before the votes came, nor have stopped them altogether.
    assert happened["acknowledged"] > 500
    assert happened["sent_again"] > 0


@pytest.mark.parametrize("state", ["stopped", "dead"])
def test_without_redis_votes_are_answered_all_the_same(tmp_path: Path, state: str) -> None:
    home, ledger = Home(tmp_path), Ledger()
    with VoteStack(home.folder) as stack:
        stack.wait_until_it_answers()
        with voting(home, stack.url, ledger, 1, pause_s=0.05):
            wait_for(lambda: ledger.acknowledged > 50, PATIENCE_S, "votes to be taken")
            redis = stack.processes["redis"]
            if state == "dead":
                stack.kill("redis")
            else:
                redis.send_signal(signal.SIGSTOP)
            try:
                before = len(ledger.seconds)
                wait_for(lambda: len(ledger.seconds) > before + 400, PATIENCE_S, "votes to be taken without Redis")
                without = ledger.seconds[before:]
            finally:
                redis.send_signal(signal.SIGCONT)
                if state == "dead":
                    stack.start("redis")
        home.drain()
    assert ledger.unsure == 0
    # Whoever waited for Redis waited until it was given up, at least.
    assert statistics.quantiles(without, n=100)[98] < SOCKET_TIMEOUT_S


def test_a_worker_that_cannot_say_that_it_is_done_goes_on_counting(tmp_path: Path) -> None:
    """Redis stops while a task runs, and goes on after the worker has given up telling it."""
    home = Home(tmp_path)
    settings = load_settings(home=home.folder)
    with VoteStack(home.folder) as stack:
        stack.wait_until_it_answers()
        time.sleep(5)
        holding = sqlite3.connect(home.folder / "record.db", isolation_level=None)
        # While somebody else writes, the task waits for its turn.
        holding.execute("BEGIN IMMEDIATE")
        assert send(make_celery(settings), COUNT_VOTES)
        time.sleep(2)
        stack.processes["redis"].send_signal(signal.SIGSTOP)
        holding.execute("ROLLBACK")
        holding.close()
        time.sleep(2 * SOCKET_TIMEOUT_S)
        stack.processes["redis"].send_signal(signal.SIGCONT)
        with voting(home, stack.url, Ledger(), 7):
            time.sleep(2)
        home.drain()


def test_a_full_disk_refuses_votes_and_loses_none(tmp_path: Path) -> None:
    home, ledger = Home(tmp_path), Ledger()
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with VoteStack(home.folder) as stack:
        stack.wait_until_it_answers()
        with voting(home, stack.url, ledger, 5):
            time.sleep(2)
            # Writes past this many bytes of any file fail, as on a full disk: a page does not fit into SQLite's log
            # even where that begins anew.
            api = stack.processes["api"].pid
            size = (home.folder / "record.db-wal").stat().st_size
            resource.prlimit(api, resource.RLIMIT_FSIZE, (min(size, 4096), resource.RLIM_INFINITY))
            acknowledged = ledger.acknowledged
            time.sleep(3)
            refused, meanwhile = ledger.unsure, ledger.acknowledged - acknowledged
            resource.prlimit(api, resource.RLIMIT_FSIZE, unlimited)
            time.sleep(2)
        home.drain()
        found = balance(home.store, ledger)
    assert refused > 10
    assert meanwhile <= VOTERS, "votes were acknowledged that cannot have been written"
    assert ledger.acknowledged > acknowledged + 50
    assert found.even, found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_full_for_all_processes_loses_no_vote(small_disk: Path) -> None:
    home, ledger, filler = Home(small_disk), Ledger(), small_disk / "filler"
    with VoteStack(home.folder) as stack:
        stack.wait_until_it_answers()
        with voting(home, stack.url, ledger, 5):
            wait_for(lambda: ledger.acknowledged > 100, PATIENCE_S, "votes to be taken")
            with filler.open("wb", buffering=0) as file:

                def full() -> bool:
                    # Again and again: what SQLite and Redis give back is taken, too.
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(512))
                    return ledger.unsure > 100

                wait_for(full, PATIENCE_S, "votes to be refused")
            filler.unlink()
            acknowledged = ledger.acknowledged
            wait_for(lambda: ledger.acknowledged > acknowledged + 100, PATIENCE_S, "votes to be taken again")
        home.drain()
        found = balance(home.store, ledger)
    assert set(ledger.refused) == {(503, "application/problem+json", "record_unavailable")}
    assert found.even, found


def test_a_client_killed_with_the_api_between_commit_and_answer_finds_one_vote(tmp_path: Path) -> None:
    """The same vote, cut off at a moment that moves through the request, is one revision when it is sent again."""
    home, ledger = Home(tmp_path), Ledger()
    with VoteStack(home.folder) as stack:
        for attempt in range(6):
            stack.wait_until_it_answers()
            with voting(home, stack.url, ledger, 100 + attempt, pause_s=0.0):
                time.sleep(0.2 + 0.003 * attempt)
                stack.restart("api")
                stack.wait_until_it_answers()
        home.drain()
        found = balance(home.store, ledger)
    assert ledger.unsure > 0
    assert found.even, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", help="URL of an empty Postgres database; SQLite without it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        happened, found = storm(Home(Path(folder), arguments.database), arguments.kills, arguments.seed)
    print(happened)
    if not found.even:
        raise SystemExit(str(found))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
