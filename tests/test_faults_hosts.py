"""Two hosts with addresses of their own against one Postgres and one Redis; one of them is cut off and comes back."""

import copy
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from feedback.schema import Lease
from feedback.settings import load_settings
from feedback.store import Store, iterations, leases, policies
from learner.prepare import prepare
from tests.learner.iterations import QUICK, start
from tests.learner.sandbox_votes import cast_votes
from tests.postgres_server import BIN
from tests.separate_hosts import API_PORT, Host, Network, network, why_not
from tests.serve.chats import chat
from tests.serve.conftest import make_home, policy_folders  # noqa: F401
from tests.test_faults_votes import Home, voting
from tests.vote_ledger import Ledger, balance
from tests.vote_stack import WORKER
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)"),
]

LEARNER = [part if part != "feedback.worker" else "learner.worker" for part in WORKER[1:]]
LEARNER[LEARNER.index("votes")] = "learner"
LONGER = QUICK | {"ppo": {**QUICK["ppo"], "steps": 12}}


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Network]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with network(tmp_path) as wired:
        yield wired


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
        wait_for(lambda host=host: answers(host, "/healthz", 200), 180, "the API processes")  # type: ignore[misc]
    urls = [f"http://{host.address}:{API_PORT}" for host in wired.hosts]
    # Voters at each host, over the same pairs; each ledger speaks of its own votes.
    there, others = Ledger(), copy.copy(home)
    others.voters_are = "other"
    with voting(home, urls[0], ledger, seed=1), voting(others, urls[1], there, seed=2):
        wait_for(lambda: min(ledger.acknowledged, there.acknowledged) > 50, 60, "votes to be taken")
        second.cut()
        before = ledger.acknowledged
        wait_for(lambda: ledger.acknowledged > before + 100, 60, "votes at the other host")
        told_s = wait_for(lambda: len(there.refused) > 0, 60, "who votes at the host that was cut off to be told")
        wait_for(lambda: home.uncounted() < 100, 60, "votes to be counted")
        second.mend()
        after = there.acknowledged
        back_s = wait_for(lambda: there.acknowledged > after + 20, 60, "the host to come back")
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
    settings = load_settings(home=shared, database_url=wired.database_url, learner=LONGER)
    store = Store(settings.record_url)
    store.migrate()
    prepare(store, settings)
    cast_votes(store, settings, 200)
    for host in wired.hosts:
        wired.start(host, shared, *LEARNER)
        wired.start(host, shared, "-m", "feedback.scheduler")
    iteration = start(store, settings)

    def state() -> iterations.Iteration:
        return store.read(iterations.get, iteration.id)

    wait_for(lambda: state().stage == "ppo" and state().progress > 0, 240, "PPO")
    victim = next(host for host in wired.hosts if host.runs(holder(store)))
    epoch = store.read(lambda session: session.get(Lease, leases.LEARNER).epoch)
    victim.cut()
    taken_s = wait_for(lambda: not victim.runs(holder(store)), 120, "another to take over")
    wait_for(lambda: state().state not in iterations.ACTIVE, 300, "the iteration to end")
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


def test_a_host_that_is_cut_off_gives_nobody_the_old_version_after_a_promotion(
    wired: Network,
    policy_folders: Path,  # noqa: F811
) -> None:
    homes = [wired.folder / f"home-{number}" for number in range(2)]
    store, secrets = make_home(homes[0], policy_folders, wired.database_url)
    homes[1].mkdir()
    shutil.copytree(homes[0] / "policies", homes[1] / "policies")
    for host, home in zip(wired.hosts, homes, strict=True):
        wired.start(host, home, "-m", "serve.engine.launcher", TANDEM_ENGINE__SLOTS="1")
        wired.start(host, home, "-m", "serve", TANDEM_ENGINE__SLOTS="1")
    for host in wired.hosts:
        wait_for(lambda host=host: answers(host, "/readyz", 200), 300, "the engines")  # type: ignore[misc]
    headers = {"authorization": f"Bearer {secrets['operate']}"}

    def ask(host: Host, path: str, body: dict[str, object]) -> httpx.Response:
        url = f"http://{host.address}:{API_PORT}{path}"
        return httpx.post(url, json=body, headers=headers, timeout=120, trust_env=False)

    def fingerprint(host: Host) -> str:
        answer = ask(host, "/v1/chat/completions", chat(max_tokens=2))
        return str(answer.json().get("system_fingerprint", answer.status_code))

    first, second = wired.hosts
    began = time.monotonic()
    assert ask(first, "/v1/policies/v1/promote", {"reason": "test"}).status_code == 200
    together_s = time.monotonic() - began
    assert [fingerprint(host) for host in wired.hosts] == ["v1", "v1"]
    second.cut()
    began = time.monotonic()
    answer = ask(first, "/v1/policies/v2/promote", {"reason": "test"})
    left_out_s = time.monotonic() - began
    assert (answer.status_code, answer.json()["behind"]) == (200, []), answer.text
    assert [fingerprint(first), fingerprint(second)] == ["v2", "503"]
    second.mend()
    seen = set[str]()

    def has_caught_up() -> bool:
        seen.add(fingerprint(second))
        return "v2" in seen

    back_s = wait_for(has_caught_up, 60, "it to catch up")
    assert seen <= {"503", "v2"}
    print({"together_s": round(together_s, 1), "left_out_s": round(left_out_s, 1), "back_s": round(back_s, 1)})
    store.close()
