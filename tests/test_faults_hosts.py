"""Two hosts with addresses of their own against one Postgres and one Redis; one of them is cut off and comes back."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

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
