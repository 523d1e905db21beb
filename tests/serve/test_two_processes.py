"""Two API processes over the same record and the same two engines: neither drives an engine that the other one drives,
each follows what the other one changes, and no reply goes by another version than the one that wrote it.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from feedback.errors import EngineUnavailable
from serve.engine.client import EngineClient
from serve.engine.door import OTHER_WEIGHTS
from serve.engine.launcher_protocol import engine_socket
from serve.engine.transfer import EngineLost
from tests.serve.api_process import Process, engine_pid, promote
from tests.serve.chats import chat, fingerprint, sample_of
from tests.serve.conftest import READY_TIMEOUT_S, Tandem, wait_until_ready
from tests.waiting import wait_for

pytestmark = pytest.mark.engine

MESSAGES = [{"role": "user", "content": "Name three colors."}]
GREEDY = {"temperature": 0, "max_tokens": 24, "logprobs": True, "messages": MESSAGES}
NATS = 0.0005


@pytest.fixture(scope="module")
def other(tandem: Tandem) -> Iterator[Process]:
    """A second API process beside the one of `tandem`; it found both engines as they were."""
    promote(tandem, "v0")
    promote(tandem, "v1")
    before = [engine_pid(tandem, slot) for slot in range(2)]
    process = Process(tandem.settings, tandem.secrets["operate"], slots=2)
    try:
        process.wait_until_ready(READY_TIMEOUT_S)
        assert [engine_pid(tandem, slot) for slot in range(2)] == before
        yield process
    finally:
        process.end()
        promote(tandem, "v0")


@pytest.fixture
def written_by(tandem: Tandem) -> dict[str, float]:
    """How sure each version is of its first token: the proof of who wrote a reply."""
    written = {}
    with tandem.client() as client:
        for version in ("v2", "v0", "v1"):
            promote(tandem, version)
            answer = client.post("/v1/chat/completions", json=chat(**GREEDY)).json()
            assert answer["system_fingerprint"] == version
            written[version] = sureness(answer)
    low, middle, high = sorted(written.values())
    assert low + 3 * NATS < middle < high - 3 * NATS
    return written


def sureness(answer: dict[str, Any]) -> float:
    return float(answer["choices"][0]["logprobs"]["content"][0]["logprob"])


def test_what_one_promotes_the_other_follows_and_no_reply_is_misattributed(
    tandem: Tandem, other: Process, written_by: dict[str, float]
) -> None:
    stopping, wrong, seen = threading.Event(), list[Any](), list[tuple[str, str]]()

    def chat_on() -> None:
        with other.client() as client:
            while not stopping.is_set():
                answer = client.post("/v1/chat/completions", json=chat(**GREEDY))
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                said = answer.json()
                version = said["system_fingerprint"]
                seen.append((version, answer.headers["x-request-id"]))
                if abs(written_by[version] - sureness(said)) > NATS:
                    wrong.append((version, sureness(said), written_by))

    with ThreadPoolExecutor(4) as pool:
        chats = [pool.submit(chat_on) for _ in range(4)]
        try:
            for version in ("v2", "v0", "v1", "v2", "v0"):
                assert promote(tandem, version).status_code == 200
                wait_for(lambda version=version: seen and seen[-1][0] == version, 60, "the other process to follow")
        finally:
            stopping.set()
    assert [one.result() for one in chats] == [None] * 4
    assert wrong == [] and {version for version, _ in seen} == {"v0", "v1", "v2"}
    for version, request_id in seen:
        (row,) = sample_of(tandem.store, request_id)
        assert (row.version_first, row.version_last) == (int(version[1:]), int(version[1:]))


def test_two_promotions_at_once_are_one_after_the_other_or_refused(tandem: Tandem, other: Process) -> None:
    def through_the_other() -> int:
        with other.client() as client:
            return client.post("/v1/policies/v2/promote", json={"reason": "test", "force": True}).status_code

    promote(tandem, "v0")
    with ThreadPoolExecutor(2) as pool:
        second = pool.submit(through_the_other)
        first = promote(tandem, "v1").status_code
    assert {first, second.result()} <= {200, 409} and 200 in (first, second.result())
    with tandem.client() as client:
        (serving,) = [
            policy["version"] for policy in client.get("/v1/policies").json()["data"] if policy["state"] == "serving"
        ]
    wait_for(lambda: fingerprint(other) == serving, 60, "the other process to follow")


def test_a_dead_engine_is_started_by_one_of_them(tandem: Tandem, other: Process) -> None:
    def started() -> int:
        return (tandem.settings.home / "launcher.log").read_text().count("slot 1: started process")

    before, count = engine_pid(tandem, 1), started()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: engine_pid(tandem, 1) != before, READY_TIMEOUT_S, "another engine")
    wait_until_ready(tandem)
    wait_for(lambda: ready_engines(other) == 2, READY_TIMEOUT_S, "the other process to find it ready")
    assert started() == count + 1
    # The other one looks at the record every second.
    wait_for(lambda: fingerprint(other) == fingerprint(tandem), READY_TIMEOUT_S, "the other process to follow")


def test_one_that_starts_in_the_midst_of_a_promotion_leaves_the_engine_to_it(tandem: Tandem, other: Process) -> None:
    promote(tandem, "v0")
    promote(tandem, "v1")
    other.process.terminate()
    other.process.wait()
    (spare,) = [slot for slot in tandem.gateway.pool.slots if slot.version == 0]
    before, said_before = engine_pid(tandem, spare.index), len(other.log)
    with ThreadPoolExecutor(1) as pool:
        # Standing still it neither changes nor answers who starts now.
        os.kill(before, signal.SIGSTOP)
        try:
            promoting = pool.submit(promote, tandem, "v2")
            wait_for(lambda: spare.being_changed, 120, "the promotion to come to the engine")
            other.start()
            wait_for(lambda: f"engine {spare.index} " in other.log[said_before:], 120, "it to look at the engine")
            assert engine_pid(tandem, spare.index) == before
        finally:
            os.kill(before, signal.SIGCONT)
        assert promoting.result().status_code == 200
    other.wait_until_ready(READY_TIMEOUT_S)
    wait_for(lambda: fingerprint(other) == "v2" and ready_engines(other) == 2, READY_TIMEOUT_S, "it to follow")
    assert engine_pid(tandem, spare.index) == before


def ready_engines(process: Process) -> int:
    with process.client() as client:
        return sum(f'tandem_engine_ready{{slot="{slot}"}} 1.0' in client.get("/metrics").text for slot in range(2))


async def test_an_engine_lets_in_only_what_is_meant_for_its_weights(tandem: Tandem) -> None:
    slot = tandem.gateway.pool.slots[0]
    held, client = f"v{slot.version}", EngineClient(engine_socket(tandem.settings.run_dir, 0))
    body = {**GREEDY, "stream": True, "max_tokens": 450, "ignore_eos": True}
    stale = await client.chat(body, "stale", weights="v99")
    assert await stale.wait_for_status() == OTHER_WEIGHTS
    # Nor is it changed by who takes it for one that was drained.
    for change in (client.commit(20), client.reload(tandem.settings.policies_dir / "v0", 20)):
        with pytest.raises(EngineLost, match=str(OTHER_WEIGHTS)):
            await change
    # A chat of another process in mid-reply holds a change up; when that takes too long all is as before. How long an
    # engine takes to answer, and to write a reply, is the machine's: between the two lies too long. And this process
    # may stand still for longer than that.
    for timeout_s in (0.05, 0.1, 0.2, 0.4, 0.8) * 4:
        long = await client.chat(body, "long", weights=held)
        assert await long.wait_for_status() == 200
        try:
            await client.drain(held, timeout_s)
        except EngineUnavailable as refused:
            assert "nothing was changed" in refused.message
            break
        except EngineLost:
            pass
        await client.resume(20)
        await client.name_weights(held, 20)
        await long.wait_for_end()
    else:
        pytest.fail("no change was held up")
    again = await client.chat(body | {"max_tokens": 2}, "again", weights=held)
    assert await again.wait_for_status() == 200
    await again.wait_for_end()
    assert (await long.wait_for_end()).endswith(b"data: [DONE]\n\n")
    # Nor is it paused when the long one ends, after whoever wanted that has given up.
    last = await client.chat(body | {"max_tokens": 2}, "last", weights=held)
    async with asyncio.timeout(60):
        await last.wait_for_end()
