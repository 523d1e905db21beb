"""What one API process answered is found by another one, over a real Redis; without one each process knows its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from starlette.datastructures import Headers

from feedback.errors import Conflict
from serve.chat import retries, shared_retries
from serve.chat.retries import Attempt, KeyReused, Retries, attempt_of
from serve.chat.shared_retries import SharedRetries
from tests.serve.redis_server import redis_server
from tests.waiting import until

FIRST = Attempt("key_1 key a", "digest", named=True, repeated=False)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with redis_server(tmp_path / "home") as (url, _):
        yield url


async def test_an_answer_is_shared_and_a_key_is_claimed_once(url: str) -> None:
    one, other = SharedRetries(url), SharedRetries(url)
    assert await one.begin_anywhere(FIRST) is None
    with pytest.raises(Conflict):
        await other.begin_anywhere(FIRST)
    one.keep(FIRST, b'{"said": "caf\xc3\xa9"}', "application/json")
    await one.stop()
    for _ in range(2):
        found = await other.begin_anywhere(FIRST)
        assert found is not None and found.media_type == "application/json"
        assert found.content == b'{"said": "caf\xc3\xa9"}'
    with pytest.raises(KeyReused) as raised:
        await other.begin_anywhere(Attempt(FIRST.name, "another body", named=True, repeated=False))
    assert raised.value.param == "Idempotency-Key"
    await other.stop()


@pytest.mark.parametrize("named", [True, False])
async def test_what_is_in_redis_runs_out_and_nothing_renews_what_is_answered(url: str, named: bool) -> None:
    attempt = Attempt("key_1 something", "digest", named=named, repeated=False)
    redis, one = Redis.from_url(url.replace("redis+socket://", "unix://")), SharedRetries(url)
    assert await one.begin_anywhere(attempt) is None
    claimed, renewing = redis.pttl(shared_retries._key(attempt)), list(one._renewals.values())
    assert 0 < claimed <= 1000 * shared_retries.PENDING_S if named else (claimed, renewing) == (-2, [])
    one.keep(attempt, b"{}", "application/json")
    await one.stop()
    assert 1000 * shared_retries.PENDING_S < redis.pttl(shared_retries._key(attempt)) <= 1000 * retries.REMEMBERED_S
    # Else this waits for as long as a test may take.
    await asyncio.gather(*renewing, return_exceptions=True)
    redis.close()


async def test_what_is_too_large_to_remember_is_free_to_be_asked_anew(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LARGEST_ANSWER_BYTES", 3)
    one, other = SharedRetries(url), SharedRetries(url)
    assert await one.begin_anywhere(FIRST) is None
    assert not one.keep(FIRST, b'{"a": 1}', "application/json")
    await one.stop()
    assert await other.begin_anywhere(FIRST) is None
    await other.stop()


@pytest.mark.parametrize("written", ["{", "[]", "{}", '{"digest": 1, "content": 2, "media_type": []}', "\ud800"])
async def test_what_somebody_else_wrote_into_redis_is_nobodys_answer(
    url: str, written: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = Redis.from_url(url.replace("redis+socket://", "unix://"))
    other.set(shared_retries._key(FIRST), written.encode(errors="surrogatepass"))
    one = SharedRetries(url)
    assert await one.begin_anywhere(FIRST) is None
    assert "retries are known to this process only" in caplog.text
    await one.stop()
    other.close()


async def test_what_came_to_nothing_may_be_begun_elsewhere(url: str) -> None:
    one, other = SharedRetries(url), SharedRetries(url)
    assert await one.begin_anywhere(FIRST) is None
    assert one.drop(FIRST)
    await one.stop()
    assert await other.begin_anywhere(FIRST) is None
    await other.stop()


async def test_a_key_is_free_again_when_whoever_was_answering_is_gone(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_retries, "RENEWALS", 100 * shared_retries.PENDING_S)
    redis, key = Redis.from_url(url.replace("redis+socket://", "unix://")), shared_retries._key(FIRST)
    one, other = SharedRetries(url), SharedRetries(url)
    assert await one.begin_anywhere(FIRST) is None
    nearly_over = round(500 * shared_retries.PENDING_S)
    redis.pexpire(key, nearly_over)
    await until(lambda: redis.pttl(key) > nearly_over)
    with pytest.raises(Conflict):
        await other.begin_anywhere(FIRST)
    # As if it were killed: it says no more.
    await one.stop()
    redis.pexpire(key, 1)
    await until(lambda: not redis.exists(key))
    assert await other.begin_anywhere(FIRST) is None
    other.keep(FIRST, b"{}", "application/json")
    await other.stop()
    assert redis.pttl(key) > 1000 * shared_retries.PENDING_S, "the answer is remembered for longer"
    redis.close()


async def test_what_is_being_answered_is_not_forgotten_and_given_free_when_it_comes_to_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "MAX_REMEMBERED", 1)
    one, other = SharedRetries(url), SharedRetries(url)
    assert await one.begin_anywhere(FIRST) is None
    for name in "bc":
        attempt = Attempt(f"key_1 key {name}", "digest", named=True, repeated=False)
        assert await one.begin_anywhere(attempt) is None
        one.keep(attempt, b"{}", "application/json")
    for process in (one, other):
        with pytest.raises(Conflict):
            await process.begin_anywhere(FIRST)
    assert one.drop(FIRST) and not one._renewals
    await one.stop()
    assert await other.begin_anywhere(FIRST) is None
    await other.stop()


@pytest.mark.parametrize("then", ["drop", "keep"])
async def test_who_was_stopped_for_too_long_leaves_the_answer_of_another_one(
    url: str, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    one, other, third = (SharedRetries(url) for _ in range(3))
    monkeypatch.setattr(shared_retries, "PENDING_S", 0.4)
    assert await one.begin_anywhere(FIRST) is None
    # As if it had run out.
    await one._redis.ask(lambda redis: redis.flushdb())
    assert await other.begin_anywhere(FIRST) is None
    await asyncio.sleep(0.3)
    other.keep(FIRST, b'{"by": "other"}', "application/json")
    await other.stop()
    # Time for renewals by the one that knows nothing of it.
    await asyncio.sleep(0.3)
    if then == "keep":
        one.keep(FIRST, b'{"by": "one"}', "application/json")
    else:
        assert one.drop(FIRST)
    await one.stop()
    await asyncio.sleep(0.3)
    found = await third.begin_anywhere(FIRST)
    assert found is not None and found.content == b'{"by": "other"}'
    await third.stop()


async def test_a_retry_without_a_key_finds_the_same_body(url: str) -> None:
    one, other = SharedRetries(url), SharedRetries(url)
    sent = Attempt("key_1 body d", "d", named=False, repeated=False)
    assert await one.begin_anywhere(sent) is None
    one.keep(sent, b"{}", "application/json")
    await one.stop()
    assert await other.begin_anywhere(sent) is None
    found = await other.begin_anywhere(Attempt(sent.name, "d", named=False, repeated=True))
    assert found is not None and found.content == b"{}"
    await other.stop()


async def test_a_retry_gets_no_answer_to_the_same_body_asked_before_its_own_first_attempt(url: str) -> None:
    one, other = SharedRetries(url), SharedRetries(url)
    first, retry = (Attempt("key_1 body b", "b", named=False, repeated=repeated) for repeated in (False, True))
    assert await one.begin_anywhere(first) is None
    one.keep(first, b"{}", "application/json")
    async with asyncio.timeout(30):
        while await other.begin_anywhere(retry) is None:
            await asyncio.sleep(0.01)
    # The same is asked once more, and comes to nothing.
    assert await one.begin_anywhere(first) is None
    one.drop(first)
    assert await one.begin_anywhere(retry) is None
    await one.stop()
    assert await other.begin_anywhere(retry) is None
    await other.stop()


async def test_a_retry_gets_the_newest_answer_to_its_body_whichever_process_gave_it(url: str) -> None:
    sent, retry = (Attempt("key_1 body n", "n", named=False, repeated=repeated) for repeated in (False, True))
    for answer in (b'"first"', b'"second"'):
        process = SharedRetries(url)
        assert await process.begin_anywhere(sent) is None
        process.keep(sent, answer, "application/json")
        await process.stop()
    asked = SharedRetries(url)
    found = await asked.begin_anywhere(retry)
    assert found is not None and found.content == b'"second"'
    await asked.stop()


@pytest.mark.parametrize(
    ("count", "repeated"), [("0", False), ("00", False), ("1", True), ("10", True), (5000 * "9", True), ("-1", False)]
)
def test_what_says_that_it_is_a_retry_is_one(count: str, repeated: bool) -> None:
    assert attempt_of(Headers({"x-stainless-retry-count": count}), "key_1", b"{}").repeated is repeated


def test_answers_are_remembered_up_to_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_REMEMBERED_BYTES", 100)
    known = Retries()
    attempts = [Attempt(f"key_1 key {at}", "digest", named=True, repeated=False) for at in range(4)]
    for attempt in [*attempts, attempts[-1]]:
        known.keep(attempt, bytes(40), "application/json")
    found = [known.begin(attempt) is not None for attempt in attempts]
    assert found == [False, False, True, True]


def test_answers_are_remembered_for_so_long_and_so_many_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_REMEMBERED", 2)
    known = Retries()
    attempts = [Attempt(f"key_1 key {at}", "digest", named=True, repeated=False) for at in range(3)]
    for attempt in attempts:
        known.keep(attempt, b"{}", "application/json")
    assert [known.begin(attempt) is not None for attempt in attempts] == [False, True, True]
    known.drop(attempts[0])
    monkeypatch.setattr(retries, "REMEMBERED_S", -1.0)
    known.keep(attempts[1], b"{}", "application/json")
    known.keep(attempts[2], b"{}", "application/json")
    assert [known.begin(attempt) for attempt in attempts] == [None] * 3


@pytest.mark.parametrize(
    "address",
    ["redis+socket://{nothing}", "redis://127.0.0.1:1/0?patience=much", "redis://127.0.0.1:1/0?protocol=much"],
    ids=["not there", "an option that there is not", "a value that there is not"],
)
async def test_without_redis_a_process_knows_its_own(tmp_path: Path, address: str) -> None:
    alone = SharedRetries(address.format(nothing=tmp_path / "nothing.sock"))
    assert await alone.begin_anywhere(FIRST) is None
    alone.keep(FIRST, b"{}", "application/json")
    found = await alone.begin_anywhere(FIRST)
    assert found is not None and found.content == b"{}"
    await alone.stop()
