"""Two hosts with addresses of their own against one Postgres and one Redis; one of them is cut off and comes back."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from feedback.schema import Lease
from feedback.settings import load_settings
from feedback.store import Store, iterations, leases, policies
from learner.prepare import prepare
from tests.learner.sandbox_votes import cast_votes
from tests.postgres_server import BIN
from tests.separate_hosts import API_PORT, Host, Network, network, why_not
from tests.test_faults_votes import Home, voting
from tests.vote_ledger import Ledger, balance
from tests.vote_stack import WORKER

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)"),
]

LEARNER = [part if part != "feedback.worker" else "learner.worker" for part in WORKER[1:]]
LEARNER[LEARNER.index("votes")] = "learner"
QUICK = {
    "preference": {"epochs": 1},
    "ppo": {"steps": 12, "batch_size": 32, "minibatch_size": 16},
    "evaluation": {"prompts": 16},
}


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Network]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with network(tmp_path) as wired:
        yield wired


def until(reached: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Returns the seconds that it took."""
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < timeout_s, what
        time.sleep(0.1)
    return time.monotonic() - began


def answers(host: Host, path: str, status: int) -> bool:
    try:
        return httpx.get(f"http://{host.address}:{API_PORT}{path}", timeout=30, trust_env=False).status_code == status
    except httpx.TransportError:
        return False


def start_counting(wired: Network) -> None:
    for number, host in enumerate(wired.hosts):
        home = wired.folder / f"home-{number}"
        home.mkdir()
        wired.start(host, home, "-m", "serve", "--home", str(home))
        wired.start(host, home, *WORKER[1:])
        wired.start(host, home, "-m", "feedback.scheduler")


def test_a_host_that_is_cut_off_loses_no_vote_and_holds_nobody_up(wired: Network) -> None:
    home, ledger = Home(wired.folder, wired.database_url), Ledger()
    second = wired.hosts[1]
    start_counting(wired)
    for host in wired.hosts:
        until(lambda host=host: answers(host, "/healthz", 200), 180, "an API process did not come up")  # type: ignore[misc]
    urls = [f"http://{host.address}:{API_PORT}" for host in wired.hosts]
    # Voters at each host, over the same pairs; each ledger speaks of its own votes.
    there, others = Ledger(), copy.copy(home)
    others.voters_are = "other"
    with voting(home, urls[0], ledger, seed=1), voting(others, urls[1], there, seed=2):
        until(lambda: min(ledger.acknowledged, there.acknowledged) > 50, 60, "no votes were taken")
        second.cut()
        before = ledger.acknowledged
        until(lambda: ledger.acknowledged > before + 100, 60, "the other host was held up")
        told_s = until(lambda: len(there.refused) > 0, 60, "who votes at the host that was cut off is not told")
        until(lambda: home.uncounted() < 100, 60, "votes were not counted any more")
        second.mend()
        after = there.acknowledged
        back_s = until(lambda: there.acknowledged > after + 20, 60, "the host did not come back")
    home.drain()
    whole = Ledger(entries=ledger.entries | there.entries)
    found = balance(home.store, whole)
    print({"acknowledged": ledger.acknowledged + there.acknowledged, "refused": dict(there.refused),
           "told_s": round(told_s, 1), "back_s": round(back_s, 1)})  # fmt: skip
    assert found.even, found
    assert {code for _, _, code in there.refused} == {"record_unavailable"}
    assert not ledger.refused, ledger.refused
    home.store.close()


def test_a_learner_that_is_cut_off_is_replaced_and_publishes_nothing(wired: Network) -> None:
    shared = wired.folder / "shared"
    settings = load_settings(home=shared, database_url=wired.database_url, learner=QUICK)
    store = Store(settings.record_url)
    store.migrate()
    prepare(store, settings)
    cast_votes(store, settings, 120)
    for host in wired.hosts:
        wired.start(host, shared, *LEARNER)
        wired.start(host, shared, "-m", "feedback.scheduler")
    iteration = store.write(
        iterations.start, trigger="operator", seed=0, settings=settings.learner.model_dump(mode="json")
    )

    def state() -> iterations.Iteration:
        return store.read(iterations.get, iteration.id)

    until(lambda: state().stage == "ppo" and state().progress > 0, 240, "the iteration did not begin")
    victim = next(host for host in wired.hosts if host.runs(holder(store)))
    epoch = store.read(lambda session: session.get(Lease, leases.LEARNER).epoch)
    victim.cut()
    taken_s = until(lambda: not victim.runs(holder(store)), 120, "nobody took over")
    until(lambda: state().state not in iterations.ACTIVE, 300, "the iteration did not end")
    victim.mend()
    # Time enough for what was cut off to say its word.
    time.sleep(10)
    ended = state()
    print({"taken_over_s": round(taken_s, 1), "attempts": ended.attempts})
    assert (ended.state, ended.candidate, ended.attempts) == ("succeeded", 1, 2)
    assert store.read(lambda session: session.get(Lease, leases.LEARNER).epoch) == epoch + 1
    assert store.read(policies.next_version) == 2
    store.close()


def holder(store: Store) -> int:
    """The process that holds the learner lease."""
    return int(store.read(lambda session: session.get(Lease, leases.LEARNER).holder).rpartition(":")[2])
