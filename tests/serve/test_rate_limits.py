"""How much one key may ask for in a minute: the estimate by hand, two processes over one Redis, a Redis that hangs."""

import os
import signal
from pathlib import Path

import httpx
import orjson
import pytest
from redis import Redis

from feedback.settings import ServeSettings
from feedback.store import keys
from serve.chat.rate_limits import RateLimits, Window, _name, duration
from serve.chat.request import ChatRequest, parse
from serve.errors import RateLimited
from tests.serve.conftest import Tandem
from tests.serve.redis_server import redis_server

NOWHERE = "redis+socket:///nonexistent/redis.sock"
MINUTE = 60.0 * 29_000_000


class Clock:
    """Seconds since 1970, as a test sets them."""

    def __init__(self, seconds: float = MINUTE) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def asked(**fields: object) -> ChatRequest:
    body = {"model": "tandem", "messages": [{"role": "user", "content": "hello"}], **fields}
    return parse(orjson.dumps(body), ServeSettings())


def test_the_estimate_by_hand() -> None:
    # 15 s into the minute three quarters of the last one still count: 40 * .75 + 20 = 50 of 60.
    window = Window(60, previous=40, current=20, elapsed=0.25)
    assert (window.used, window.remaining, window.reset_s) == (50.0, 10, 105.0)
    assert window.wait_s(10) == 0
    # Ten more fit when only 10 of the last minute's 40 count: at 75 % of this one, 30 s from now.
    assert window.wait_s(30) == pytest.approx(30.0)
    # 50 fit only when 10 of this minute's 20 count: half of the next one, 45 + 30 s from now.
    assert window.wait_s(50) == pytest.approx(75.0)
    assert (Window(60, 0, 0, 0.5).reset_s, Window(60, 40, 0, 0.5).reset_s) == (0, 30)
    # A part of one more is none, and neither is what was taken beyond the limit, or given back where it was not known.
    assert [window.remaining for window in (Window(60, 41, 20, 0.25), Window(60, 0, 90, 0))] == [9, 0]
    assert Window(60, -5, -5, 0.5).used == 0


def test_durations_as_openai_writes_them() -> None:
    assert [duration(s) for s in (0, 0.85, 1, 12.2, 60, 90.5)] == ["0ms", "850ms", "1s", "13s", "1m0s", "1m31s"]


async def test_the_wait_that_is_said_is_enough_and_no_longer() -> None:
    clock = Clock()
    limits = RateLimits(ServeSettings(requests_per_minute=3), NOWHERE, clock)
    for left in (2, 1, 0):
        charge = await limits.charge("key", asked(), 10)
        assert charge.headers["x-ratelimit-remaining-requests"] == str(left)
    for _ in range(5):  # who is refused is charged nothing, however often they try
        with pytest.raises(RateLimited) as refused:
            await limits.charge("key", asked(), 10)
    await limits.charge("another key", asked(), 10)
    clock.seconds += refused.value.retry_after_s - 2
    with pytest.raises(RateLimited):
        await limits.charge("key", asked(), 10)
    clock.seconds += 2
    await limits.charge("key", asked(), 10)


async def test_tokens_that_were_not_taken_are_given_back() -> None:
    limits = RateLimits(ServeSettings(tokens_per_minute=1000), NOWHERE, Clock())
    charge = await limits.charge("key", asked(max_tokens=450, n=2), 40)
    assert charge.headers["x-ratelimit-remaining-tokens"] == "90"
    with pytest.raises(RateLimited, match="tokens a minute"):
        await limits.charge("key", asked(max_tokens=100), 40)
    for _ in range(2):
        limits.settle("key", charge, 30)
    charge = await limits.charge("key", asked(max_tokens=100), 40)
    assert charge.headers["x-ratelimit-remaining-tokens"] == "860"
    # More than was thought of is charged as well.
    limits.settle("key", charge, 400)
    charge = await limits.charge("key", asked(max_tokens=10), 0)
    assert charge.headers["x-ratelimit-remaining-tokens"] == "560"


async def test_a_chat_larger_than_the_limit_waits_for_all_of_it_and_not_for_ever() -> None:
    limits = RateLimits(ServeSettings(tokens_per_minute=100), NOWHERE, Clock())
    await limits.charge("key", asked(max_tokens=5000), 40)
    with pytest.raises(RateLimited):
        await limits.charge("key", asked(max_tokens=1), 4)


async def test_a_keys_own_limits_take_the_place_of_those_for_all() -> None:
    limits = RateLimits(ServeSettings(requests_per_minute=1, tokens_per_minute=1000), NOWHERE, Clock())
    own = {"requests": 2}
    for left in ("1", "0"):
        charge = await limits.charge("key", asked(max_tokens=10), 40, own)
        assert charge.headers["x-ratelimit-limit-requests"] == "2"
        assert charge.headers["x-ratelimit-remaining-requests"] == left
        assert charge.headers["x-ratelimit-limit-tokens"] == "1000"
    with pytest.raises(RateLimited, match="this key may use 2 requests a minute"):
        await limits.charge("key", asked(max_tokens=10), 40, own)
    await limits.charge("another key", asked(max_tokens=10), 40)
    with pytest.raises(RateLimited, match="1 requests a minute"):
        await limits.charge("another key", asked(max_tokens=10), 40)


async def test_a_keys_own_limit_of_tokens_is_settled_where_the_settings_have_none() -> None:
    limits = RateLimits(ServeSettings(), NOWHERE, Clock())
    assert (await limits.charge("another key", asked(), 40)).headers == {}
    charge = await limits.charge("key", asked(max_tokens=450), 40, {"tokens": 1000})
    limits.settle("key", charge, 30)
    charge = await limits.charge("key", asked(max_tokens=100), 40, {"tokens": 1000})
    assert charge.headers["x-ratelimit-remaining-tokens"] == "860"


async def test_two_processes_count_as_one_and_a_hung_redis_stops_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is waited for so long once; where it answers that is enough on a busy machine, too.
    monkeypatch.setattr("serve.redis_link.TIMEOUT_S", 3.0)
    settings, clock = ServeSettings(requests_per_minute=4), Clock()
    with redis_server(tmp_path / "home") as (url, process):
        one, other = RateLimits(settings, url, clock), RateLimits(settings, url, clock)
        for limits in (one, other, one):
            await limits.charge("key", asked(), 10)
        os.kill(process.pid, signal.SIGSTOP)
        # Alone, this process has seen one of the three.
        assert (await other.charge("key", asked(), 10)).headers["x-ratelimit-remaining-requests"] == "2"
        os.kill(process.pid, signal.SIGCONT)
        fresh = RateLimits(settings, url, clock)
        # What was asked while it hung may have been counted late, or not.
        with pytest.raises(RateLimited):
            for _ in range(2):
                await fresh.charge("key", asked(), 10)
        for limits in (one, other, fresh):
            await limits.stop()


async def test_what_somebody_else_wrote_into_redis_stops_no_chat(tmp_path: Path) -> None:
    settings, clock = ServeSettings(requests_per_minute=4), Clock()
    with redis_server(tmp_path / "home") as (url, _):
        limits, other = RateLimits(settings, url, clock), Redis.from_url(url.replace("redis+socket://", "unix://"))
        other.set(_name("key", "requests", int(clock() // 60) - 1), "many")
        charge = await limits.charge("key", asked(), 10)
        assert charge.headers["x-ratelimit-remaining-requests"] == "3", "counted by this process alone"
        await limits.stop()
        other.close()


async def test_what_one_process_counted_another_one_goes_on_from_in_the_next_minute(tmp_path: Path) -> None:
    settings, clock = ServeSettings(requests_per_minute=4, tokens_per_minute=1000), Clock()
    with redis_server(tmp_path / "home") as (url, _):
        one, other, third = (RateLimits(settings, url, clock) for _ in range(3))
        charge = await one.charge("key", asked(max_tokens=450), 40)
        assert charge.headers["x-ratelimit-remaining-tokens"] == "540"
        one.settle("key", charge, 60)
        await one.stop()
        # Half of the next minute later half of the 60 tokens and of the request counts, and the new chat's 100.
        clock.seconds += 90
        charge = await other.charge("key", asked(max_tokens=90), 39)
        assert charge.headers == {
            "x-ratelimit-limit-requests": "4", "x-ratelimit-remaining-requests": "2",
            "x-ratelimit-reset-requests": "1m30s",
            "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "870",
            "x-ratelimit-reset-tokens": "1m30s",
        }  # fmt: skip
        # All tokens fit when none of either minute counts; requests would fit now. Who is refused is charged nothing.
        with pytest.raises(RateLimited, match="1000 tokens a minute; try again in 90 s"):
            await other.charge("key", asked(max_tokens=5000), 40)
        other.settle("key", charge, 150)
        await other.stop()
        charge = await third.charge("key", asked(max_tokens=90), 40)
        assert charge.headers["x-ratelimit-remaining-tokens"] == "720"
        assert charge.headers["x-ratelimit-remaining-requests"] == "1"
        await third.stop()


@pytest.mark.engine
def test_over_the_wire(tandem: Tandem) -> None:
    gateway, usual = tandem.gateway, tandem.gateway.rate_limits
    gateway.rate_limits = RateLimits(ServeSettings(requests_per_minute=2, tokens_per_minute=10_000), NOWHERE)
    body = {"model": "tandem", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    try:
        with tandem.client("chat") as client:
            first = client.post("/v1/chat/completions", json=body)
            streamed = client.post("/v1/chat/completions", json={**body, "stream": True})
            refused = client.post("/v1/chat/completions", json=body)
        with tandem.client("vote") as client:
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert client.post("/v1/chat/completions", json=body).status_code == 429
        _, own = tandem.store.write(keys.create, "chat", requests_per_minute=3)
        with tandem.client(headers={"authorization": f"Bearer {own}"}) as client:
            its_own = [client.post("/v1/chat/completions", json=body) for _ in range(4)]
    finally:
        gateway.rate_limits = usual
    assert [answer.status_code for answer in its_own] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in its_own] == ["2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in its_own} == {"3"}
    assert "this key may use 3 requests a minute" in its_own[-1].json()["error"]["message"]
    assert (first.status_code, streamed.status_code, refused.status_code) == (200, 200, 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    taken = 10_000 - int(streamed.headers["x-ratelimit-remaining-tokens"])
    estimated = len(httpx.Request("POST", "http://x", json=body).content) / 4 + 4
    # The first chat is settled by then: its real tokens, and the second one's estimate.
    assert estimated < taken < first.json()["usage"]["total_tokens"] + estimated + 10
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
