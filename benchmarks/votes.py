"""Votes through one API process, with the worker that counts them: a CPU-second, and latency with and without Redis.

Prints the votes accepted per CPU-second of the API process, and of API process, worker and scheduler together, at full
load; then the latency at a steady rate, first as usual, then with Redis stopped by SIGSTOP, each beside what the disk
takes at the same time to flush a page that nobody else writes to: no vote can be durable sooner.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil

from feedback.settings import load_settings
from feedback.store import Store, keys, votes
from tests.feedback.record import add_comparison
from tests.postgres_server import PostgresServer
from tests.vote_stack import VoteStack

PROCESSES = ("api", "worker", "scheduler")
POSTGRES = "postgres"
WARM_UP_VOTES = 300
FLUSH_INTERVAL_S = 0.05
DRAINED_WITHIN_S = 120.0


class Voting:
    """Clients that vote, each vote a new one."""

    def __init__(self, url: str, secret: str, comparisons: list[str]) -> None:
        self.url = url
        self.headers = {"authorization": f"Bearer {secret}"}
        self.comparisons = comparisons
        self.sent = 0

    async def once(self, session: aiohttp.ClientSession) -> float:
        number, self.sent = self.sent, self.sent + 1
        comparison = self.comparisons[number % len(self.comparisons)]
        body = {
            "objective": ("helpful", "harmless")[number // len(self.comparisons) % 2],
            "preferred": number % 2,
            "strength": 1 + number % 4,
            "rater": f"rater-{number // len(self.comparisons) // 2}",
        }
        began = time.perf_counter()
        async with session.put(f"{self.url}/v1/comparisons/{comparison}/vote", json=body) as response:
            await response.read()
            assert response.status == 200, await response.text()
        return time.perf_counter() - began

    async def flat_out(self, count: int, clients: int) -> None:
        """`count` votes by clients that each wait for their answer."""
        async with aiohttp.ClientSession(headers=self.headers) as session:

            async def client() -> None:
                while self.sent < until:
                    await self.once(session)

            until = self.sent + count
            await asyncio.gather(*(client() for _ in range(clients)))

    async def steady(self, rate: float, seconds: float) -> list[float]:
        """Votes at moments that do not wait for answers. Returns the seconds each took."""
        async with aiohttp.ClientSession(headers=self.headers) as session:
            began, tasks = time.perf_counter(), []
            for number in range(round(rate * seconds)):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                tasks.append(asyncio.create_task(self.once(session)))
            return list(await asyncio.gather(*tasks))


def cpu_seconds(stack: VoteStack, server: PostgresServer | None) -> dict[str, float]:
    """What each process and its children have used so far, Postgres aside."""
    processes = {name: psutil.Process(stack.processes[name].pid) for name in PROCESSES}
    if server is not None:
        processes[POSTGRES] = server.process
    return {
        name: sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))
        for name, process in processes.items()
    }


def drain(store: Store) -> float:
    """Seconds until all votes were counted, or for which that was waited for."""
    began = time.monotonic()
    while store.read(votes.count_by_state).get("accepted") and time.monotonic() - began < DRAINED_WITHIN_S:
        time.sleep(0.1)
    return time.monotonic() - began


@contextlib.contextmanager
def stopped(stack: VoteStack, name: str) -> Iterator[None]:
    process = stack.processes[name]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def flushing(folder: Path) -> Iterator[list[float]]:
    """Flush a page in a file of its own, twenty times a second. Gives the seconds each took."""
    taken: list[float] = []
    ended = threading.Event()

    def flush() -> None:
        with (folder / "flushed").open("wb") as file:
            while not ended.wait(FLUSH_INTERVAL_S):
                os.pwrite(file.fileno(), os.urandom(4096), 0)
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                taken.append(time.perf_counter() - began)

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield taken
    finally:
        ended.set()
        thread.join()


def said(seconds: list[float], what: str) -> str:
    quantiles = statistics.quantiles(seconds, n=100)
    return f"{what} p50 {1000 * quantiles[49]:.1f} ms, p99 {1000 * quantiles[98]:.1f} ms"


def measured(voting: Voting, folder: Path, rate: float, seconds: float) -> str:
    with flushing(folder) as flushes:
        taken = asyncio.run(voting.steady(rate, seconds))
    ratio = statistics.quantiles(taken, n=100)[98] / statistics.median(taken)
    return f"{said(taken, f'{len(taken)} votes')} ({ratio:.1f} times); {said(flushes, 'flush')}"


def run(folder: Path, server: PostgresServer | None, count: int, clients: int, rate: float, seconds: float) -> None:
    home = folder / "home"
    database_url = None if server is None else server.new_database()
    store = Store(load_settings(home=home, database_url=database_url).record_url)
    store.migrate()
    key, secret = store.write(keys.create, "vote")
    comparisons = [add_comparison(store, key_id=key.id) for _ in range(200)]
    with VoteStack(home, database_url) as stack:
        stack.wait_until_it_answers()
        voting = Voting(stack.url, secret, comparisons)
        asyncio.run(voting.flat_out(WARM_UP_VOTES, clients))
        drain(store)
        before, began = cpu_seconds(stack, server), time.monotonic()
        asyncio.run(voting.flat_out(count, clients))
        elapsed_s = time.monotonic() - began
        drain(store)
        used = {name: after - before[name] for name, after in cpu_seconds(stack, server).items()}
        own = sum(used[name] for name in PROCESSES)
        each = ", ".join(f"{name} {value:.2f}" for name, value in used.items())
        print(f"{count} votes in {elapsed_s:.1f} s; CPU-seconds: {each}")
        print(f"votes per CPU-second: API {count / used['api']:.0f}, together {count / own:.0f}")
        print(f"at {rate:.0f}/s: {measured(voting, folder, rate, seconds)}")
        with stopped(stack, "redis"):
            print(f"at {rate:.0f}/s, Redis stopped: {measured(voting, folder, rate, seconds)}")
        print(f"drained {drain(store):.1f} s after Redis went on")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=4000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--postgres", action="store_true", help="on a private Postgres, which is left out of the sums")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(PostgresServer(durable=True)) if arguments.postgres else None
        run(folder, server, arguments.votes, arguments.clients, arguments.rate, arguments.seconds)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
