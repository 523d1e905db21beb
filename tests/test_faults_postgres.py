"""Promise 1 where the database itself is killed: every process of Postgres at once, while votes come in.

`python -m tests.test_faults_postgres --kills 50 --seed 3` runs it longer and prints what happened.
"""

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from feedback.schema import Promotion
from feedback.settings import load_settings
from feedback.store import iterations, keys
from tests.clients import client_of
from tests.postgres_server import BIN, PostgresServer
from tests.serve.api_process import promote
from tests.serve.chats import fingerprint
from tests.serve.conftest import (
    ServerThread,
    policy_folders,  # noqa: F401
)
from tests.serve.test_hosts import hosts_with_engines
from tests.test_faults_votes import DRAINED_WITHIN_S, Home, voting
from tests.vote_ledger import Balance, Ledger, balance
from tests.vote_stack import VoteStack
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)"),
]

UNAVAILABLE = (503, "application/problem+json", "record_unavailable")


def storm(folder: Path, kills: int, seed: int) -> tuple[dict[str, Any], Balance, Ledger]:
    """Vote while Postgres is killed and comes back. Returns what happened, the balance and the ledger."""
    rng, ledger = random.Random(seed), Ledger()
    with PostgresServer(durable=True) as server:
        home = Home(folder, server.new_database())
        with VoteStack(home.folder, home.database_url) as stack:
            stack.wait_until_it_answers()
            with voting(home, stack.url, ledger, seed):
                for _ in range(kills):
                    time.sleep(rng.uniform(0.5, 2))
                    server.kill()
                    time.sleep(rng.choice((0.0, 0.5, 2.0)))
                    server.start()
                last_fault = time.monotonic()
                acknowledged = ledger.acknowledged
                while ledger.acknowledged == acknowledged:
                    assert time.monotonic() - last_fault < DRAINED_WITHIN_S, "no vote was taken again"
                    time.sleep(0.1)
            home.drain()
            drained_s = time.monotonic() - last_fault
            alive = {name: process.poll() is None for name, process in stack.processes.items()}
        found = balance(home.store, ledger)
        home.store.close()
    happened = {
        "kills": kills,
        "acknowledged": ledger.acknowledged,
        "votes": len(ledger.entries),
        "sent_again": ledger.unsure,
        "refused": {" ".join(map(str, said)): count for said, count in ledger.refused.items()},
        "ended": sorted(name for name, lives in alive.items() if not lives),
        "drained_s": round(drained_s, 1),
        "lost": len(found.lost),
        "double": len(found.double_revisions) + len(found.double_counts) + len(found.tallies_off),
    }
    return happened, found, ledger


def test_no_acknowledged_vote_is_lost_when_postgres_is_killed(tmp_path: Path) -> None:
    happened, found, ledger = storm(tmp_path, kills=10, seed=20260414)
    print(happened)
    assert found.even, found
    assert happened["drained_s"] < DRAINED_WITHIN_S
    assert ledger.acknowledged > 200
    # Whoever votes meanwhile is told what is the matter, and nothing but that.
    assert set(ledger.refused) == {UNAVAILABLE}
    assert happened["ended"] == [], "a process did not outlive its database"


async def test_what_the_routes_say_while_postgres_is_gone(tmp_path: Path) -> None:
    with PostgresServer(durable=True) as server:
        home = Home(tmp_path, server.new_database())
        with VoteStack(home.folder, home.database_url) as stack:
            stack.wait_until_it_answers()
            headers = {"authorization": f"Bearer {home.secret}"}
            async with aiohttp.ClientSession(stack.url, headers=headers) as session:
                server.kill()
                vote = {"objective": "helpful", "preferred": 0, "strength": 1}
                async with session.put(f"/v1/comparisons/{home.comparisons[0]}/vote", json=vote) as refused:
                    said = await refused.json(content_type=None)
                    assert (refused.status, refused.content_type, said["code"]) == UNAVAILABLE
                    assert refused.headers["retry-after"]
                    assert "send the request again" in said["detail"]
                for path, status in (("/v1/comparisons", 503), ("/readyz", 503), ("/healthz", 200)):
                    async with session.get(path) as answer:
                        assert answer.status == status, path
                chat = {"model": "tandem", "messages": [{"role": "user", "content": "Hi"}]}
                async with session.post("/v1/chat/completions", json=chat) as refused:
                    assert refused.status == 503
                    assert (await refused.json())["error"]["type"] == "server_error"
                server.start()
                async with session.put(f"/v1/comparisons/{home.comparisons[0]}/vote", json=vote) as taken:
                    assert taken.status == 200
        home.store.close()


def test_who_follows_an_iteration_misses_nothing_while_postgres_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.routes.iterations.LOOK_INTERVAL_S", 0.01)
    with PostgresServer() as server:
        home = Home(tmp_path, server.new_database())
        _, secret = home.store.write(keys.create, "operate")
        apis = [ServerThread(load_settings(home=home.folder, database_url=home.database_url)) for _ in range(2)]
        for api in apis:
            api.start()
        one, other = (client_of(api.url, secret) for api in apis)
        iteration_id = one.post("/v1/iterations").json()["id"]
        path = f"/v1/iterations/{iteration_id}/events"
        claimed = home.store.write(iterations.claim, iteration_id, "test", 600.0, 3)
        assert claimed is not None
        with one.stream("GET", path) as following:
            lines = following.iter_lines()
            first = next(lines)
            server.kill()
            for _ in range(3):
                # It was looked for more events, too.
                assert one.get("/v1/iterations").status_code == 503
            server.start()
            wait_for(lambda: one.get("/v1/iterations").status_code == 200, 60, "the record to come back")
            for step in range(250):
                home.store.write(iterations.tell, iteration_id, claimed[1], "ppo_step", {"step": step})
            home.store.write(iterations.fail, iteration_id, claimed[1], "on purpose")
            heard = [first, *lines]
        told = home.store.read(iterations.events_after, iteration_id, 0, 1000)
        assert [line for line in heard if line.startswith("id:")] == [f"id: {event.seq}" for event in told]
        # Through the other one, from where a client had come to.
        rest = other.get(path, headers={"last-event-id": str(told[99].seq)}).text.splitlines()
        assert rest == heard[4 * 100 :]
        for api in apis:
            api.stop()
        home.store.close()


@pytest.mark.engine
def test_postgres_is_killed_in_the_midst_of_promotions_and_engines_follow_the_record(
    tmp_path: Path,
    policy_folders: Path,  # noqa: F811
) -> None:
    outcomes = Counter[str]()
    with hosts_with_engines(tmp_path, policy_folders, (2,)) as hosts, ThreadPoolExecutor(1) as pool:
        (process,) = hosts.processes
        process.wait_until_ready(300)
        for attempt in range(6):
            before = hosts.recorded()
            wanted = f"v{1 - before}"
            promoting = pool.submit(promote, process, wanted)
            time.sleep(0.15 * attempt)
            hosts.server.kill()
            time.sleep(0.5)
            hosts.server.start()
            answer = promoting.result()
            serving = hosts.recorded()
            outcomes[f"{answer.status_code} v{serving} of {wanted}"] += 1
            # What was not answered with success may have been made all the same; the other way round it may not.
            assert serving in (before, 1 - before) and (answer.status_code != 200 or f"v{serving}" == wanted)
            wait_for(lambda serving=serving: fingerprint(process) == f"v{serving}", 120, "engines to follow the record")
            wait_for(
                lambda wanted=wanted: promote(process, wanted).status_code == 200,
                120,
                "it to be promoted",
            )
            assert fingerprint(process) == wanted and f"v{hosts.recorded()}" == wanted
        made = hosts.store.read(
            lambda session: session.scalars(select(Promotion.version).where(Promotion.outcome == "succeeded")).all()
        )
    print(dict(outcomes))
    # To v1 and back, each once, however often it was asked for.
    assert sorted(made) == [0, 0, 0, 1, 1, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        happened, found, _ = storm(Path(folder), arguments.kills, arguments.seed)
    print(happened)
    if not found.even:
        raise SystemExit(str(found))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
