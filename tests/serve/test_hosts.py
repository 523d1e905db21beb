"""Two API processes with engines of their own over one Postgres, as on two hosts: a promotion is one for all clients,
or none; whoever is away is left out, and gives nobody the old version when it comes back. One host has an engine to
spare, the other one changes its only engine in place.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import select

from feedback.schema import ApiProcess, Sample
from feedback.settings import load_settings
from feedback.store import Store, policies, presence
from tests.postgres_server import BIN, PostgresServer
from tests.serve.api_process import Process, engine_pid, promote
from tests.serve.chats import chat, fingerprint
from tests.serve.conftest import LauncherProcess, make_home
from tests.serve.spoiling import spoiled_version
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(BIN is None, reason="no Postgres on this machine (initdb not found)"),
]

SLOTS = (2, 1)


@dataclass
class Hosts:
    server: PostgresServer
    store: Store
    processes: list[Process]
    launchers: list[LauncherProcess]

    def fingerprints(self) -> list[str]:
        return [fingerprint(process) for process in self.processes]

    def serve(self, version: str) -> None:
        """An engine that failed a moment ago may have to come back first."""
        wait_for(lambda: promote(self.processes[0], version).status_code == 200, 60, f"{version} to serve")
        assert self.fingerprints() == [version, version]

    def recorded(self) -> int | None:
        serving = self.store.read(policies.serving)
        return None if serving is None else serving.version


@contextmanager
def hosts_with_engines(folder: Path, policy_folders: Path, slots: tuple[int, ...]) -> Iterator[Hosts]:
    """A host for each number of engines, over one Postgres; nothing serves yet."""
    with PostgresServer() as server:
        url = server.new_database()
        store, secrets = make_home(folder / "host-0", policy_folders, url)
        launchers, processes = list[LauncherProcess](), list[Process]()
        try:
            for number, engines in enumerate(slots):
                home = folder / f"host-{number}"
                if number:
                    home.mkdir()
                    shutil.copytree(folder / "host-0" / "policies", home / "policies")
                settings = load_settings(home=home, engine={"slots": engines}, database_url=url)
                launchers.append(LauncherProcess(settings))
                processes.append(Process(settings, secrets["operate"], slots=engines, TANDEM_DATABASE_URL=url))
            yield Hosts(server, store, processes, launchers)
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.process.send_signal(signal.SIGCONT)
                process.end()
            for launcher in launchers:
                launcher.stop()
            store.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, policy_folders: Path) -> Iterator[Hosts]:
    with hosts_with_engines(tmp_path_factory.mktemp("hosts"), policy_folders, SLOTS) as started:
        for process in started.processes:
            process.wait_until_ready(300)
        yield started


@pytest.fixture
def hosts(running: Hosts) -> Hosts:
    """v0 serves on both."""
    for process in running.processes:
        if process.process.poll() is not None:
            process.start()
        process.wait_until_ready(120)
    running.serve("v0")
    return running


@dataclass
class Chats:
    """What clients saw: when they asked, when they had the answer, by which version."""

    seen: list[tuple[float, float, int, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def asked_after(self, moment: float) -> set[str]:
        return {version for asked, _, _, version in self.seen if asked > moment}

    def window_s(self, old: str, new: str) -> float:
        """For how long new chats were still given the old version after somebody had been given the new one."""
        first = min(answered for _, answered, _, version in self.seen if version == new)
        return max(0.0, max(asked for asked, _, _, version in self.seen if version == old) - first)


@contextmanager
def chatting(processes: list[Process]) -> Iterator[Chats]:
    """Three clients on each host."""
    stopping, chats = threading.Event(), Chats()

    def chat_on(number: int) -> None:
        with processes[number].client() as client:
            while not stopping.is_set():
                asked = time.monotonic()
                try:
                    answer = client.post("/v1/chat/completions", json=chat(max_tokens=4))
                except httpx.TransportError as error:
                    chats.failures.append(type(error).__name__)
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    version = answer.json()["system_fingerprint"]
                    chats.seen.append((asked, time.monotonic(), number, version))
                    chats.ids.append(answer.headers["x-request-id"])
                else:
                    chats.failures.append(answer.text)
                    time.sleep(0.05)

    threads = [threading.Thread(target=chat_on, args=(number,)) for number in range(len(processes)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield chats
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_a_promotion_is_one_for_the_clients_of_all_hosts(hosts: Hosts) -> None:
    windows, took = [], []
    before = "v0"
    for number, version in enumerate(("v1", "v2", "v1", "v0")):
        with chatting(hosts.processes) as chats:
            wait_for(lambda chats=chats: len(chats.seen) > 12, 60, "chats")  # type: ignore[misc]
            answer = promote(hosts.processes[number % 2], version)
            answered = time.monotonic()
            wait_for(lambda: len([1 for asked, *_ in chats.seen if asked > answered]) > 12, 60, "chats")  # noqa: B023
        assert (answer.status_code, answer.json()["behind"]) == (200, []), answer.text
        assert chats.asked_after(answered) == {version}
        assert chats.failures == []
        rows = hosts.store.read(
            lambda session: session.scalars(select(Sample).where(Sample.request_id.in_(chats.ids))).all()
        )
        assert len(rows) == len(chats.ids) and not any(row.mixed for row in rows)
        windows.append(round(1000 * chats.window_s(before, version)))
        took.append(answer.json()["elapsed_s"])
        before = version
    print({"windows_ms": windows, "elapsed_s": [round(seconds, 2) for seconds in took]})


def test_where_one_host_cannot_load_it_nothing_changes_anywhere(hosts: Hosts) -> None:
    leader, other = hosts.processes
    version = spoiled_version(hosts.store, leader.settings, "nothing")
    shutil.copytree(leader.settings.policies_dir / f"v{version}", other.settings.policies_dir / f"v{version}")
    weights = other.settings.policies_dir / f"v{version}" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    held = models(leader)
    for asked in (leader, other):
        with chatting(hosts.processes) as chats:
            answer = promote(asked, f"v{version}")
        assert answer.status_code in (422, 503), answer.text
        assert chats.failures == [] and chats.asked_after(0) == {"v0"}
    assert hosts.recorded() == 0
    wait_for(lambda: models(leader) == held, 10, "the engine that was prepared to be put back")
    with leader.client() as client:
        attempts = client.get(f"/v1/policies/v{version}").json()["promotions"]
    assert [attempt["outcome"] for attempt in attempts] == ["failed", "failed"]
    # In place, on the host with one engine only, too.
    wrong = spoiled_version(hosts.store, leader.settings, "probe")
    shutil.copytree(leader.settings.policies_dir / f"v{wrong}", other.settings.policies_dir / f"v{wrong}")
    # Not refused while what this host was preparing for the other one is put back.
    assert promote(leader, f"v{wrong}").status_code in (422, 503)
    assert hosts.fingerprints() == ["v0", "v0"]
    hosts.serve("v1")


def models(process: Process) -> list[str]:
    with process.client() as client:
        return [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_two_promotions_at_once_through_two_hosts(hosts: Hosts) -> None:
    found: list[int] = []
    second = threading.Thread(target=lambda: found.append(promote(hosts.processes[1], "v2").status_code))
    second.start()
    found.append(promote(hosts.processes[0], "v1").status_code)
    second.join()
    assert set(found) <= {200, 409} and 200 in found
    assert hosts.fingerprints() == [f"v{hosts.recorded()}"] * 2


@pytest.mark.parametrize("fault", ["stopped", "killed"])
def test_a_host_that_is_away_is_left_out_and_gives_nobody_the_old_version_afterwards(hosts: Hosts, fault: str) -> None:
    leader, other = hosts.processes
    other.process.send_signal(signal.SIGSTOP if fault == "stopped" else signal.SIGKILL)
    began = time.monotonic()
    answer = promote(leader, "v1")
    assert (answer.status_code, answer.json()["behind"]) == (200, []), answer.text
    print({"left out after, s": round(time.monotonic() - began, 1)})
    assert fingerprint(leader) == "v1"
    with chatting([other]) as chats:
        if fault == "stopped":
            other.process.send_signal(signal.SIGCONT)
        else:
            other.process.wait()
            other.start()
        wait_for(lambda: len(chats.seen) > 12, 120, "it to come back")
    assert chats.asked_after(0) == {"v1"}
    hosts.serve("v2")


def test_a_host_that_stops_when_it_is_prepared_never_gives_the_old_version_after_the_answer(hosts: Hosts) -> None:
    leader, other = hosts.processes
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(promote(leader, "v1")))
    asking.start()

    deadline = time.monotonic() + 60
    while asking.is_alive() and not has_come_to(hosts.store, "load"):
        assert time.monotonic() < deadline
    other.process.send_signal(signal.SIGSTOP)
    asking.join()
    assert (answers[0].status_code, answers[0].json()["behind"]) == (200, []), answers[0].text
    with chatting([other]) as chats:
        other.process.send_signal(signal.SIGCONT)
        wait_for(lambda: len(chats.seen) > 12, 60, "it to come back")
    assert chats.asked_after(0) == {"v1"}


def test_who_leads_is_killed_before_the_promotion_is_made(hosts: Hosts) -> None:
    leader, other = hosts.processes
    engine = psutil.Process(engine_pid(other))
    failed: list[str] = []

    def ask() -> None:
        with suppress(httpx.TransportError):
            failed.append(promote(leader, "v1").text)

    asking = threading.Thread(target=ask)
    # With its only engine standing still the other host cannot become ready: it has not even staged the version.
    engine.suspend()
    try:
        asking.start()
        wait_for(lambda: hosts.store.read(presence.asked_for) is not None, 60, "it to be asked to prepare")
        time.sleep(1)
        os.kill(leader.process.pid, signal.SIGKILL)
        leader.process.wait()
    finally:
        engine.resume()
    asking.join()
    assert failed == [] and hosts.recorded() == 0
    # The leader's lease runs out, and what was prepared is put back.
    wait_for(lambda: fingerprint(other) == "v0", 60, "the other host to serve")
    leader.start()
    leader.wait_until_ready(60)
    assert hosts.fingerprints() == ["v0", "v0"]
    wait_for(lambda: promote(leader, "v1").status_code == 200, 60, "it to be promoted")
    assert hosts.fingerprints() == ["v1", "v1"]


def test_the_record_goes_away_before_the_promotion_is_made(hosts: Hosts) -> None:
    """The only engine has the new weights in place by then, and takes no chats."""
    other, leader = hosts.processes
    before, answers = engine_pid(leader), list[httpx.Response]()
    asking = threading.Thread(target=lambda: answers.append(promote(leader, "v1")))
    # The leader waits until the other host has loaded it, which it does not while its engine stands still.
    engine = psutil.Process(engine_pid(other))
    engine.suspend()
    asking.start()
    try:
        wait_for(lambda: models(leader) == [], 60, "the only engine to be held")
        hosts.server.kill()
        asking.join()
    finally:
        engine.resume()
        hosts.server.start()
    assert answers[0].status_code == 503, answers[0].text
    wait_for(lambda: hosts.fingerprints() == ["v0", "v0"], 60, "the old version to serve")
    assert engine_pid(leader) == before and hosts.recorded() == 0
    hosts.serve("v1")


def has_come_to(store: Store, stage: str) -> bool:
    return stage in store.read(lambda session: session.scalars(select(ApiProcess.stage)).all())
