"""The record at 10,000, 100,000 and 1,000,000 votes: pages of lists, handing out, counting, ratings, freezing, import.

Everything in CPU-seconds: on SQLite those of one process, with `--postgres` those of a private Postgres and of the
process that uses it, together. A list page is the median of 20.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import insert, text

from feedback import datasets, rater_watch, ratings
from feedback.importing import import_file
from feedback.schema import Comparison, Rater, Sample, Vote
from feedback.settings import FeedbackSettings
from feedback.store import Store, comparisons, raters, samples, votes
from feedback.worker import count_all
from tests.postgres_server import PostgresServer

RATERS = 200
BATCH = 5000
KEY = "key_a"
OPERATOR: dict[str, Any] = {"key_id": "key_op", "sees_all": True, "rater": ""}


servers: list[PostgresServer] = []


def used() -> float:
    """CPU-seconds of this process and of the servers so far; those of ended backends are in their parent's."""
    total = time.process_time()
    for server in servers:
        first = server.process
        total += sum(first.cpu_times())
        for child in first.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(child.cpu_times()[:2])
    return total


def cpu(work: Callable[[], Any]) -> float:
    before = used()
    work()
    return used() - before


def fill(store: Store, count: int, first: int = 0) -> None:
    """`count` accepted votes, each on a pair of its own, and a tenth as many pairs without votes."""
    rng = random.Random(count)
    if first == 0:
        rows = [{"id": f"rtr_{n}", "key_id": KEY, "name": f"r{n}", "created_at": 0.0} for n in range(RATERS)]
        store.write(lambda session: session.execute(insert(Rater), rows))
    for start in range(first, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        store.write(_fill_batch, numbers, rng)


def _fill_batch(session: Any, numbers: range, rng: random.Random) -> None:
    rows: dict[Any, list[dict[str, Any]]] = {Sample: [], Comparison: [], Vote: []}
    for number in numbers:
        messages = [{"role": "user", "content": f"What is {number % 5000} plus {number % 7}?"}]
        digest = samples.prompt_digest(messages)
        for side in (0, 1):
            rows[Sample].append(
                {"id": f"smp_{number:08}_{side}", "key_id": KEY, "messages": messages, "prompt_digest": digest,
                 "text": f"It is {number + side}.", "sampling": {}, "version_first": side, "version_last": side,
                 "status": "complete", "created_at": float(number)}
            )  # fmt: skip
        open_pair = number % 10 == 9
        rows[Comparison].append(
            {"id": f"cmp_{number:08}", "key_id": KEY,
             "sample_0": f"smp_{number:08}_0", "sample_1": f"smp_{number:08}_1",
             "version_0": 0, "version_1": 1, "prompt_digest": digest, "tranche": "online", "votes_counted": 0,
             "created_at": float(number)}
        )  # fmt: skip
        if not open_pair:
            rows[Vote].append(
                {"id": f"vote_{number:08}", "comparison_id": f"cmp_{number:08}", "rater_id": f"rtr_{number % RATERS}",
                 "objective": ("helpful", "harmless")[number % 2], "preferred": rng.choice("01"), "strength": 2,
                 "state": "accepted", "revision": 1, "created_at": float(number), "updated_at": float(number)}
            )  # fmt: skip
    for table, values in rows.items():
        session.execute(insert(table), values)


def page(work: Callable[[], Any]) -> float:
    """Milliseconds. The system counts the time of another process in steps of ten: there the mean of many is taken."""
    if servers:
        return 1000 * cpu(lambda: [work() for _ in range(100)]) / 100
    return 1000 * statistics.median(cpu(work) for _ in range(20))


def measure(store: Store, folder: Path, size: int) -> None:
    settings = FeedbackSettings()
    wanted = OPERATOR | {"objective": "helpful", "votes_wanted": 1, "limit": 20}
    of_a_key = wanted | {"key_id": KEY, "sees_all": False, "rater": "r1"}
    handed, _ = store.write(comparisons.hand_out, **wanted, uniform_share=0.0)
    first, _ = store.read(comparisons.list_all, **OPERATOR, limit=20, after=None, order="desc")
    deep = f"cmp_{size // 2:08}"
    figures = {
        "list newest, ms": page(
            lambda: store.read(comparisons.list_all, **OPERATOR, limit=20, after=None, order="desc")
        ),
        "list from the middle, ms": page(
            lambda: store.read(comparisons.list_all, **OPERATOR, limit=20, after=deep, order="desc")
        ),
        "hand out, ms": page(lambda: store.write(comparisons.hand_out, **wanted, uniform_share=settings.uniform_share)),
        "hand out to a key, ms": page(
            lambda: store.write(comparisons.hand_out, **of_a_key, uniform_share=settings.uniform_share)
        ),
        "hand on, ms": page(lambda: store.write(comparisons.hand_on, **wanted, after=handed[-1].comparison.id)),
        "votes by state, ms": page(lambda: store.read(votes.count_by_state)),
        "ratings, ms": page(lambda: store.read(ratings.current)),
        "watch raters, s": cpu(lambda: rater_watch.watch(store, settings)),
        "list raters, ms": page(lambda: store.read(raters.list_page, limit=20)),
        "freeze, s": cpu(lambda: store.read(datasets.freeze, folder, settings)),
    }
    assert len(first) == 20
    print(json.dumps({"votes": size} | {name: round(value, 2) for name, value in figures.items()}), flush=True)


def measure_import(store: Store, folder: Path, pairs: int) -> None:
    path = folder / "helpful-base.jsonl"
    with path.open("w") as file:
        for number in range(pairs):
            context = f"\n\nHuman: How do I do thing {number}? " + "Some more words of a question. " * 8
            sides = {
                side: f"{context}\n\nAssistant: {side} " + "and so on and so forth. " * 8 + str(number)
                for side in ("chosen", "rejected")
            }
            file.write(json.dumps(sides) + "\n")
    own, both = time.process_time(), used()
    import_file(store, path, "hh", home=folder)
    own, both = time.process_time() - own, used() - both
    print(f"import: {pairs / own:.0f} pairs per CPU-second of this process, {pairs / both:.0f} with the server's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--postgres", action="store_true", help="on a private Postgres")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.postgres:
            servers.append(stack.enter_context(PostgresServer(durable=True)))
        urls = [
            servers[0].new_database() if servers else f"sqlite:///{folder / name}.db" for name in ("import", "record")
        ]
        imported = Store(urls[0])
        imported.migrate()
        measure_import(imported, folder, arguments.pairs)
        imported.close()
        store = Store(urls[1])
        store.migrate()
        filled = 0
        for size in sorted(arguments.sizes):
            fill(store, size, filled)
            waiting = store.read(votes.count_by_state)["accepted"]
            used = cpu(lambda: count_all(store))
            print(f"counting: {waiting / used:.0f} votes per CPU-second")
            # As Postgres does by itself some minutes later.
            if servers:
                with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.execute(text("VACUUM ANALYZE"))
            measure(store, folder, size)
            filled = size
        store.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
