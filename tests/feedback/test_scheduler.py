import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis
from sqlalchemy import update
from sqlalchemy.orm import Session

from feedback.queue import COUNT_VOTES, HINT_INTERVAL_S, VoteHints, make_sender, send
from feedback.scheduler import Scheduler, due
from feedback.schema import AuditEntry, Base
from feedback.settings import LoopSettings, Settings, load_settings
from feedback.store import Store, comparisons, counting, erasure, iterations, leases, raters, samples, votes
from tests.feedback.crowd import cast, crowd
from tests.feedback.record import add_comparison, judgement, sample
from tests.records import empty_record_of
from tests.serve.redis_server import redis_server
from tests.waiting import wait_for

EVERYBODY = {"key_id": "", "sees_all": True, "rater": "", "limit": 10, "after": None, "order": "desc"}
LOOP = LoopSettings(votes_per_iteration=100, min_votes=20, interval_s=3600)


@pytest.mark.parametrize(
    ("counted", "since", "elapsed_s", "trigger"),
    [
        (100, 100, 0, "count"),
        (100, 99, 0, None),
        (500, 30, 3600, "time"),
        (500, 30, 3599, None),
        (500, 0, 9999, None),
        (19, 19, 9999, None),
    ],
)
def test_when_an_iteration_is_due(counted: int, since: int, elapsed_s: float, trigger: str | None) -> None:
    assert due(LOOP, counted, since, elapsed_s) == trigger


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home whose Redis does not exist: what is sent is lost, and that must not matter."""
    loop = {"votes_per_iteration": 3, "min_votes": 1}
    settings = load_settings(home=tmp_path, loop=loop, redis_url=f"redis+socket://{tmp_path}/no.sock")
    empty_record_of(settings).close()
    return settings


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store(settings.record_url)
    yield store
    store.close()


def test_what_only_sends_gives_up_at_once_where_redis_is_not_there(tmp_path: Path) -> None:
    """As kombu comes it tries after 2 and after 6 seconds too, and the look that sends waits for it."""
    asked: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "redis.sock"))
        dead.listen()

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    asked.append(dead.accept()[0])
                    asked[-1].close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        settings = load_settings(home=tmp_path, redis_url=f"redis+socket://{tmp_path}/redis.sock")
        waits: list[float] = []
        sleep = time.sleep
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("kombu.utils.functional.sleep", lambda seconds: (waits.append(seconds), sleep(seconds)))
            assert not send(make_sender(settings), COUNT_VOTES)
        dead.shutdown(socket.SHUT_RDWR)
    refusing.join()
    assert asked
    assert 0 < sum(waits) < 1


@pytest.fixture
def unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what sends nothing of interest, each of which waits seconds for a Redis that is not there."""
    monkeypatch.setattr("feedback.scheduler.send", lambda *_: False)


def put_votes(store: Store, count: int) -> None:
    for _ in range(count):
        store.write(votes.put, add_comparison(store), judgement(), key_id="key_a", sees_all=False, rater="ann")


def test_an_iteration_starts_by_count_once_and_not_again_after_it_failed(store: Store, settings: Settings) -> None:
    scheduler = Scheduler(settings, store, make_sender(settings))
    put_votes(store, 3)
    scheduler.look()
    assert store.read(iterations.active) is None, "accepted votes are not counted ones"
    store.write(counting.count_accepted)
    for _ in range(2):
        scheduler.look()
    iteration = store.read(iterations.active)
    assert (iteration.trigger, iteration.state) == ("count", "queued")
    assert iteration.settings["ppo"]["clip_range"] == settings.learner.ppo.clip_range
    _, epoch = store.write(iterations.claim, iteration.id, "me", 60.0, 5)
    store.write(iterations.fail, iteration.id, epoch, "no")
    scheduler.look()
    assert store.read(iterations.active) is None
    put_votes(store, 3)
    store.write(counting.count_accepted)
    scheduler.look()
    assert store.read(iterations.active) is not None


def test_an_iteration_that_an_operator_starts_meanwhile_is_the_one(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(settings, store, make_sender(settings))

    def somebody_is_quicker(*_: object) -> str:
        store.write(iterations.start, trigger="operator", seed=0, settings={})
        return "count"

    monkeypatch.setattr("feedback.scheduler.due", somebody_is_quicker)
    scheduler.look()
    assert store.read(iterations.active).trigger == "operator"
    assert len(store.read(iterations.list_all)) == 1


def turn_back(store: Store, seconds: float) -> None:
    """Have the record say what it would if the clock had been turned back just now."""
    for table in Base.metadata.sorted_tables:
        times = [column for column in table.c if column.name.endswith("_at")]
        if times and table.name != AuditEntry.__tablename__:
            store.write(Session.execute, update(table).values({one: one + seconds for one in times}))


@pytest.mark.usefixtures("unsent")
def test_iterations_go_on_when_a_clock_that_was_ahead_is_put_right(store: Store, settings: Settings) -> None:
    scheduler = Scheduler(settings, store, make_sender(settings))
    begun = []
    for _ in range(2):
        put_votes(store, 3)
        store.write(counting.count_accepted)
        scheduler.look()
        begun.append(store.read(iterations.active))
        assert begun[-1] is not None
        _, epoch = store.write(iterations.claim, begun[-1].id, "me", 60.0, 5)
        store.write(iterations.fail, begun[-1].id, epoch, "no")
        turn_back(store, 86_400)
    assert begun[0].id != begun[1].id


def test_only_the_holder_of_the_lease_acts(store: Store, settings: Settings) -> None:
    store.write(leases.acquire, leases.SCHEDULER, "somebody else", 60.0)
    put_votes(store, 3)
    store.write(counting.count_accepted)
    Scheduler(settings, store, make_sender(settings)).look()
    assert store.read(iterations.active) is None


def test_an_iteration_that_nobody_claims_is_handed_on_less_and_less_often(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hint starts a learner, and one that the record refuses the claim ends again."""
    clock, sent_at = [0], list[int]()
    scheduler = Scheduler(settings, store, make_sender(settings))
    monkeypatch.setattr("feedback.scheduler.send", lambda *_: sent_at.append(clock[0]) is None)
    # Of its module alone: others in this process have servers that wait by the clock.
    monkeypatch.setattr("feedback.scheduler.time", SimpleNamespace(monotonic=lambda: float(clock[0])))
    iteration = store.write(iterations.start, trigger="operator", seed=0, settings={})

    def waits() -> list[int]:
        """How long it was until each next hint, over an hour from the first one on."""
        sent_at.clear()
        until = clock[0] + 3600
        while clock[0] < until:
            scheduler.hand_on_iteration()
            clock[0] += int(settings.loop.lease_ttl_s)
        return [later - before for before, later in itertools.pairwise(sent_at)]

    ttl = int(settings.loop.lease_ttl_s)
    assert waits() == [ttl, 2 * ttl, 4 * ttl, 8 * ttl, 16 * ttl, 32 * ttl, 600, 600, 600, 600]
    for _ in range(1100):
        clock[0] += 600
        scheduler.hand_on_iteration()
    assert set(waits()) == {600}, "as often after a week"
    # One that was claimed, and whose learner died, is handed on at once again.
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    store.write(leases.release, leases.LEARNER, claimed[1])
    assert waits()[:2] == [ttl, 2 * ttl]


def test_without_redis_hints_cost_the_caller_nothing(settings: Settings) -> None:
    assert not send(make_sender(settings), "feedback.count_votes")
    hints = VoteHints(settings)
    hints.start()
    started = time.thread_time()
    for _ in range(1000):
        hints.notify()
    assert time.thread_time() - started < 0.1
    hints.stop()


@pytest.mark.parametrize("option", ["patience", "socket_timeout"])
def test_an_option_of_redis_that_there_is_not_is_told_of(
    settings: Settings, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    misspelt = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:1/0?{option}=much"})
    assert not send(make_sender(misspelt), COUNT_VOTES)
    assert option in caplog.text


def test_what_the_queue_does_not_explain_is_named(caplog: pytest.LogCaptureFixture) -> None:
    def send_task(*_: object, **__: object) -> None:
        raise TimeoutError

    celery: Any = SimpleNamespace(send_task=send_task)
    assert not send(celery, COUNT_VOTES)
    assert "TimeoutError" in caplog.text


def test_a_full_redis_is_named_so_and_left_alone_for_a_while(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("feedback.queue.PAUSE_S", 3600.0)
    with redis_server(tmp_path / "redis") as (url, _):
        Redis.from_url(url.replace("redis+socket://", "unix://")).config_set("maxmemory", 1)
        hints = VoteHints(settings.model_copy(update={"redis_url": url}))
        hints.start()
        hints.notify()
        wait_for(lambda: caplog.messages, 60, "Redis to be found full")
        for _ in range(4):
            hints.notify()
            time.sleep(HINT_INTERVAL_S)
        hints.stop()
    (said,) = caplog.messages
    assert "maxmemory" in said and "scheduler" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_redis_is_known_by_its_certificate(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    self_signed = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=localhost"]
    files = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run([*self_signed, *files], check=True, capture_output=True)
    with redis_server(tmp_path / "redis") as (url, _), behind_tls(Path(urlsplit(url).path), certificate, key) as port:
        # By two names: of one kombu keeps a connection for whoever asks next.
        addresses = f"rediss://localhost:{port}/0", f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
        unknown, known = (make_sender(settings.model_copy(update={"redis_url": address})) for address in addresses)
        assert not send(unknown, COUNT_VOTES)
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        assert send(known, COUNT_VOTES)


@pytest.mark.parametrize(
    ("behind", "asked_for"),
    [
        ("0", ssl.CERT_REQUIRED),
        ("0?ssl_ca_certs=/ca.pem", ssl.CERT_REQUIRED),
        ("0?ssl_cert_reqs=", ssl.CERT_REQUIRED),
        ("0#0", ssl.CERT_REQUIRED),
        ("0?ssl_cert_reqs=none", ssl.CERT_NONE),
    ],
)
def test_any_certificate_is_taken_where_that_is_asked_for_alone(
    settings: Settings, behind: str, asked_for: ssl.VerifyMode
) -> None:
    address = f"rediss://:ssl_cert_reqs=@localhost/{behind}"
    with make_sender(settings.model_copy(update={"redis_url": address})).connection() as connection:
        assert connection.ssl["ssl_cert_reqs"] is asked_for
        assert (connection.password, connection.virtual_host) == ("ssl_cert_reqs=", "0")
        assert connection.ssl.get("ssl_ca_certs", "/ca.pem") == "/ca.pem"


@contextlib.contextmanager
def behind_tls(server: Path, certificate: Path, key: Path) -> Iterator[int]:
    """The port by which what listens on a unix socket is reached by TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    ready, ending = Future[int](), asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while said := await reader.read(1 << 16):
                writer.write(said)
        finally:
            writer.transport.abort()

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_unix_connection(server)
        await asyncio.gather(carry(reader, asks), carry(answers, writer))

    async def listen() -> None:
        listening = await asyncio.start_server(let_in, "127.0.0.1", 0, ssl=context)
        ready.set_result(listening.sockets[0].getsockname()[1])
        await ending.wait()
        listening.close()

    loop = asyncio.new_event_loop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(listen())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(60)
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()


def test_chats_are_erased_when_they_have_been_kept_for_long_enough_unless_voted_on(
    store: Store, settings: Settings
) -> None:
    keeping = settings.model_copy(update={"feedback": settings.feedback.model_copy(update={"retention_days": 30.0})})
    old, young = sample("old"), sample("young", created_at=time.time() - 29 * 86_400)
    store.write(samples.add, [old, young])
    put_votes(store, 1)
    ((judged, *_),) = (pair.samples for pair in store.read(comparisons.list_all, **EVERYBODY)[0])
    Scheduler(settings, store, make_sender(settings)).look()
    assert store.read(samples.get, old.id).text == "old", "without a limit everything is kept"
    Scheduler(keeping, store, make_sender(settings)).look()
    assert store.read(samples.get, old.id).status == "erased"
    assert {store.read(samples.get, kept.id).status for kept in (young, judged)} == {"complete"}


@pytest.mark.usefixtures("unsent")
def test_of_more_old_chats_than_are_erased_at_once_the_others_go_at_the_next_look(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = settings.model_copy(update={"feedback": settings.feedback.model_copy(update={"retention_days": 30.0})})
    monkeypatch.setattr("feedback.scheduler.EXPIRED_AT_ONCE", 2)
    old = [sample(f"old {n}") for n in range(3)]
    store.write(samples.add, old)
    scheduler = Scheduler(keeping, store, make_sender(settings))
    left = []
    for _ in range(2):
        scheduler.look()
        left.append(sum(store.read(samples.get, one.id).status != "erased" for one in old))
    assert left == [1, 0]


def test_no_vote_waits_while_old_chats_are_looked_for(store: Store, settings: Settings) -> None:
    keeping = settings.model_copy(update={"feedback": settings.feedback.model_copy(update={"retention_days": 30.0})})
    store.write(samples.add, [sample("young", created_at=time.time())])
    looking = Scheduler(keeping, Store(settings.record_url), make_sender(settings))

    def look(session: Session) -> None:
        votes.count_by_state(session)
        # The one write lock is taken: only what reads comes to its end.
        looking.expire_chats()

    store.write(look)


@pytest.mark.usefixtures("unsent")
def test_raters_are_watched_as_votes_come_in(store: Store, settings: Settings) -> None:
    scheduler = Scheduler(settings, store, make_sender(settings))
    cast(store, crowd(10, turned=2), pairs=140, votes_each=3)
    scheduler.look()
    assert store.read(votes.count_by_state)["quarantined"] > 0


@pytest.mark.usefixtures("unsent")
def test_raters_are_watched_on_when_many_votes_have_gone(store: Store, settings: Settings) -> None:
    scheduler = Scheduler(settings, store, make_sender(settings))
    put_votes(store, 400)
    store.write(counting.count_accepted)
    scheduler.look()
    store.write(erasure.erase, store.read(raters.find, "key_a", "ann"))
    cast(store, crowd(10, turned=2), pairs=100, votes_each=3)
    scheduler.look()
    assert store.read(votes.count_by_state).get("quarantined", 0) > 0


def test_a_clock_turned_back_stops_neither_the_sweeper_nor_a_lease(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_votes(store, 3)
    store.write(leases.acquire, leases.SCHEDULER, "who died", 60.0)
    sent: list[str] = []
    monkeypatch.setattr("feedback.scheduler.send", lambda _, task, *__: sent.append(task) or True)
    turn_back(store, 3600)
    Scheduler(settings, store, make_sender(settings)).look()
    assert sent == ["feedback.count_votes"]


def test_the_process_ends_with_its_parent(store: Store, settings: Settings) -> None:
    """A scheduler started by a process that is killed ends too."""
    code = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-m', 'feedback.scheduler']).pid, flush=True)\n"
        "time.sleep(600)"
    )
    env = os.environ | {"TANDEM_HOME": str(settings.home)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    scheduler = int(parent.stdout.readline())
    wait_for(lambda: store.read(leases.held, leases.SCHEDULER), 120, "its lease")
    parent.kill()
    parent.wait()

    def has_ended() -> bool:
        try:
            return psutil.Process(scheduler).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_for(has_ended, 120, "its end")
