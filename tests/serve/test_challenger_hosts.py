"""A challenger is set for all hosts: those with an engine to spare load it, whoever was asked, also one that was away
when it was set; and none keeps it when it is set no more.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feedback.store import leases
from tests.postgres_server import BIN
from tests.serve.api_process import Process, promote
from tests.serve.chats import fingerprint
from tests.serve.test_hosts import Hosts, hosts_with_engines, models
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)"),
]

LOADING_S = 60


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Hosts]:
    """Two with an engine to spare, one without."""
    with hosts_with_engines(tmp_path_factory.mktemp("hosts"), policy_folders, (2, 2, 1)) as started:
        for process in started.processes:
            process.wait_until_ready(300)
        yield started


def put(process: Process, challenger: str | None, share: float = 1.0) -> None:
    """Again while an engine still starts."""
    shares = {"challenger": challenger, "chat_share": share, "comparison_share": share}
    with process.client() as client:
        answers = []

        def is_set() -> bool:
            answers.append(client.put("/v1/traffic", json=shares))
            assert answers[-1].status_code in (200, 503), answers[-1].text
            return bool(answers[-1].status_code == 200)

        wait_for(is_set, LOADING_S, "it to be set")
    assert answers[-1].json()["challenger"] == challenger


def holders(process: Process) -> list[bool]:
    """As any host is asked, of each."""
    with process.client() as client:
        return sorted(one["holds_challenger"] for one in client.get("/v1/traffic").json()["processes"])


def test_it_is_loaded_on_all_hosts_with_an_engine_to_spare_and_leaves_them_again(hosts: Hosts) -> None:
    first, second, small = hosts.processes
    wait_for(lambda: len(holders(first)) == 3, 60, "all hosts to serve")
    put(first, "v1")
    assert fingerprint(first) == "v1", "who was asked has it when it answers"
    wait_for(lambda: fingerprint(second) == "v1", LOADING_S, "the other host to load it")
    wait_for(lambda: holders(second) == holders(small) == [False, True, True], 10, "it to be told who holds it")
    assert fingerprint(small) == "v0", "where there is no engine to spare its share goes to what serves"
    wait_for(lambda: "there is one engine only" in small.log, 60, "the small host to say why")

    put(second, None)
    wait_for(lambda: models(first) == models(second) == ["tandem", "tandem@v0"], LOADING_S, "it to be given back")
    assert hosts.fingerprints() == ["v0"] * 3


def test_a_host_that_was_away_when_it_was_set_has_it_when_it_is_back(hosts: Hosts) -> None:
    first, second, _ = hosts.processes
    put(first, "v1")
    wait_for(lambda: fingerprint(second) == "v1", LOADING_S, "the other host to load it")
    second.process.kill()
    second.process.wait()
    put(first, "v2")
    second.start()
    second.wait_until_ready(120)
    wait_for(lambda: fingerprint(second) == "v2", LOADING_S, "it to load what was set meanwhile")
    put(first, None)
    wait_for(lambda: models(second) == ["tandem", "tandem@v0"], LOADING_S, "it to be given back")


def test_a_promotion_waits_until_a_host_has_loaded_it_and_is_not_refused(hosts: Hosts) -> None:
    first, second, _ = hosts.processes
    for asked, version in ((first, "v1"), (second, "v0")):
        put(first, "v2", 0.0)
        deadline = time.monotonic() + LOADING_S
        while not (hosts.store.read(leases.holder, leases.ENGINES) or "").startswith(leases.PASSING):
            assert time.monotonic() < deadline, "no other host loaded it"
        answer = promote(asked, version)
        assert (answer.status_code, answer.json().get("behind")) == (200, []), answer.text
        wait_for(lambda: holders(first) == [False, True, True], LOADING_S, "the challenger to have its engines")
        put(first, None)
        wait_for(lambda: "tandem@v2" not in models(first) + models(second), LOADING_S, "it to be given back")
