"""The whole loop for an hour on a real stack: chats, votes, iterations, promotions, rollbacks, pruning, kills; then a
ledger.

Processes are killed in the first part of it. In the second nothing is, so that what grows then grows for another
reason than a process that began anew: memory and file handles must level off; disk and rows are set against the chats
that they hold.
"""

import argparse
import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sqlalchemy import func, select

from benchmarks.votes import drain
from deploy.running import read_state
from feedback.schema import Base, Iteration, Promotion
from feedback.store import Store, keys, policies
from tests.people import People
from tests.stack import Stack, running_stack
from tests.vote_ledger import balance

ENV = {
    "TANDEM_LOOP__VOTES_PER_ITERATION": "150",
    "TANDEM_LOOP__LEASE_TTL_S": "5",
    "TANDEM_LEARNER__PPO__STEPS": "4",
    "TANDEM_ENGINE__HANG_TIMEOUT_S": "10",
    "TANDEM_FEEDBACK__OLD_VOTES": "300",
    "TANDEM_RETENTION__VERSIONS": "3",
    "TANDEM_RETENTION__ITERATIONS": "3",
    # The ledger takes a vote that was set apart for a lost one.
    "TANDEM_FEEDBACK__QUARANTINE_OUTLIERS": "false",
}
KILLS = {"api": 2, "votes": 3, "redis": 2, "scheduler": 2, "learner": 1, "scorer": 1, "iteration": 2, "engine": 2,
         "engines": 1, "stop redis": 2, "stop engine": 1}  # fmt: skip
# These end what is being written, and for as long as it takes to start again nothing is answered.
FELT_BY_CHATS = {"api", "engine", "engines", "stop engine"}
FELT_FOR_S = 120.0
CALM_SHARE = 0.5
SAMPLE_INTERVAL_S = 10.0
PARTS = ("api", "votes", "learner", "scheduler", "scorer", "redis", "engines")


@dataclass(frozen=True)
class Reading:
    """What the stack took at a moment: bytes of memory (shared pages once) and open files by part, bytes by folder,
    rows by table."""

    at: float
    answered: int
    memory: dict[str, int]
    files: dict[str, int]
    disk: dict[str, int]
    rows: dict[str, int]


@dataclass
class Soak:
    """One run: who is at work, what was done to the stack, and what was read of it."""

    stack: Stack
    store: Store
    people: People
    rng: random.Random
    struck: list[tuple[float, str]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def run(self, minutes: float) -> None:
        began = time.monotonic()
        until, calm = began + 60 * minutes, began + 60 * minutes * (1 - CALM_SHARE)
        due: dict[Callable[[], None], tuple[float, float]] = {
            self.read: (0.0, SAMPLE_INTERVAL_S),
            self.strike: (began + 30, 30.0),
            self.promote: (began + 60, 45.0),
            self.roll_back: (began + 150, 180.0),
            self.prune: (began + 200, 120.0),
        }
        while (at := time.monotonic()) < until:
            for action, (when, every_s) in due.items():
                if at >= when and not (action == self.strike and at > calm):
                    action()
                    due[action] = (time.monotonic() + every_s, every_s)
            time.sleep(0.5)
        self.read()

    def read(self) -> None:
        memory, files = Counter[str](), Counter[str]()
        for part, processes in self._parts().items():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    memory[part] += process.memory_full_info().pss
                    files[part] += process.num_fds()
        home = self.stack.home
        disk = Counter[str]()
        for path in home.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file():
                    disk[path.relative_to(home).parts[0].removesuffix("-wal").removesuffix("-shm")] += (
                        path.stat().st_size
                    )
        self.readings.append(
            Reading(time.monotonic(), self.people.chats.answered, dict(memory), dict(files), dict(disk), self._rows())
        )

    def strike(self) -> None:
        fault = self.rng.choices(list(KILLS), weights=list(KILLS.values()))[0]
        verb, _, name = fault.rpartition(" ")
        with contextlib.suppress(IndexError, psutil.NoSuchProcess):
            process = self.rng.choice(self._targets(name))
            self.struck.append((time.monotonic(), fault))
            if fault == "stop redis":
                process.suspend()
                time.sleep(self.rng.uniform(1, 6))
                process.resume()
            else:
                process.send_signal(signal.SIGSTOP if verb else signal.SIGKILL)

    def promote(self) -> None:
        """The newest candidate, whatever the gate says."""
        rows, _ = self.store.read(policies.list_page, limit=1, after=None, order="desc")
        if rows[0].state == "candidate":
            self._change(f"/v1/policies/v{rows[0].version}/promote", force=True)

    def roll_back(self) -> None:
        self._change("/v1/policies/rollback")

    def prune(self) -> None:
        with contextlib.suppress(AssertionError):
            self.stack.tandem("prune")

    def _change(self, path: str, **more: object) -> None:
        with contextlib.suppress(httpx.HTTPError), self.stack.client() as client:
            answer = client.post(path, json={"reason": "soak", **more})
            if answer.status_code != 200:
                self.refused[f"{path.rpartition('/')[2]}: {answer.status_code} {answer.json().get('code')}"] += 1

    def _parts(self) -> dict[str, list[psutil.Process]]:
        """The processes of each part, children included; an iteration's is a part of its own."""
        state = read_state(self.stack.home)
        parts: dict[str, list[psutil.Process]] = {}
        for process in state.processes if state is not None else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.pid is not None:
                    first = psutil.Process(process.pid)
                    parts[process.name] = [first, *first.children(recursive=True)]
        iteration = [one for one in parts.get("learner", []) if "learner.iteration" in _command(one)]
        return parts | {
            "learner": [one for one in parts.get("learner", []) if one not in iteration],
            "iteration": iteration,
        }

    def _targets(self, name: str) -> list[psutil.Process]:
        if name == "engine":
            return self._parts()["engines"][1:]
        return self._parts()[name][:1]

    def _rows(self) -> dict[str, int]:
        return self.store.read(
            lambda session: {
                table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
                for table in Base.metadata.sorted_tables
            }
        )

    def unexplained(self) -> list[str]:
        """Failed chats that no fault explains: none that they feel was going on."""
        felt = [at for at, fault in self.struck if fault in FELT_BY_CHATS]
        return [
            failure.what
            for failure in self.people.chats.failures
            if not any(at - 1 <= failure.ended and failure.began <= at + FELT_FOR_S for at in felt)
        ]


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def tell(soak: Soak, drained_s: float) -> bool:
    """Print the ledger. Whether it is even: nothing lost, doubled, mixed or unexplained."""
    people, store = soak.people, soak.store
    found, unexplained = balance(store, people.ledger), soak.unexplained()
    again = f"{people.ledger.unsure} sent again"
    doubled = len(found.double_revisions) + len(found.double_counts) + len(found.tallies_off)
    chats, failures = people.chats, Counter(failure.what for failure in people.chats.failures)
    quantiles = statistics.quantiles(chats.seconds, n=100)
    iterations = store.read(lambda session: Counter(session.scalars(select(Iteration.state))))
    promotions = store.read(
        lambda session: Counter(
            f"{kind} {outcome}" for kind, outcome in session.execute(select(Promotion.kind, Promotion.outcome))
        )
    )
    serving = store.read(policies.serving)
    assert serving is not None
    print(f"faults      {dict(Counter(fault for _, fault in soak.struck))}")
    print(f"chats       {chats.answered} answered, p50 {quantiles[49]:.2f} s, p99 {quantiles[98]:.2f} s; "
          f"{chats.mixed} mixed; by version {dict(sorted(chats.versions.items()))}")  # fmt: skip
    print(
        f"            {failures.total()} failed {dict(failures)}, not by a fault {len(unexplained)} {unexplained[:5]}"
    )
    print(f"votes       {people.ledger.acknowledged} acknowledged, {again}; {len(found.lost)} lost, "
          f"{doubled} double, {found.unknown} unknown; drained in {drained_s:.1f} s")  # fmt: skip
    print(f"iterations  {dict(iterations)}")
    print(f"changes     {dict(promotions)}; refused {dict(soak.refused)}; v{serving.version} serves at the end")
    tell_growth(soak.readings)
    return found.even and not unexplained and not chats.mixed


def tell_growth(readings: list[Reading]) -> None:
    """What was taken at the beginning of the calm, in its middle, and at its end."""
    calm = readings[int(len(readings) * (1 - CALM_SHARE)) + 1 :]
    thirds = [calm[: len(calm) // 3], calm[len(calm) // 3 : 2 * len(calm) // 3], calm[2 * len(calm) // 3 :]]
    if not all(thirds):
        return
    hours = (calm[-1].at - calm[0].at) / 3600
    print(f"the calm lasted {60 * hours:.1f} minutes; medians of its thirds")
    for what, unit in (("memory", 1e6), ("files", 1)):
        for name in (*PARTS, "iteration"):
            values = [statistics.median(getattr(one, what).get(name, 0) / unit for one in third) for third in thirds]
            if any(values):
                print(f"  {what:7} {name:12} " + " -> ".join(f"{value:.0f}" for value in values))
    first, last = readings[0], readings[-1]
    answered = last.answered - first.answered
    for what, unit in (("disk", 1e6), ("rows", 1)):
        for name in sorted(getattr(last, what)):
            values = [getattr(one, what).get(name, 0) / unit for one in (first, calm[0], last)]
            if values[2] > 0.5:
                print(f"  {what:7} {name:20} " + " -> ".join(f"{value:.1f}" for value in values)
                      + f"; a chat {unit * (values[2] - values[0]) / max(1, answered):.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.update(ENV)
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder) / "home") as stack:
        store = stack.store()
        _, key = store.write(keys.create, "vote")
        with People(stack.url, key, seed=arguments.seed, pause_s=0.2) as people:
            soak = Soak(stack, store, people, random.Random(arguments.seed))
            soak.run(arguments.minutes)
        even = tell(soak, drain(store))
        store.close()
    print("even" if even else "NOT even")
    sys.exit(not even)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
