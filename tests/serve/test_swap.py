"""Promotion and rollback with real engines and chats in flight; and what fails, leaving the old version serving."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from feedback.schema import Sample
from feedback.store import leases, policies
from tests.serve.api_process import engine_pid, promote
from tests.serve.chats import chat, chatting, events, fingerprint
from tests.serve.conftest import READY_TIMEOUT_S, Tandem, wait_until_ready
from tests.serve.spoiling import spoiled_version
from tests.waiting import wait_for

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def v0_serves(tandem: Tandem) -> Iterator[None]:
    """Each test begins and ends with v0."""
    promote(tandem, "v0")
    wait_until_ready(tandem)
    yield
    wait_until_ready(tandem)
    promote(tandem, "v0")


def test_promote_and_roll_back(tandem: Tandem) -> None:
    answer = promote(tandem, "v1")
    assert answer.status_code == 200
    assert {"version": "v1", "previous": "v0", "changed": True}.items() <= answer.json().items()
    assert fingerprint(tandem) == "v1"
    serving = tandem.store.read(policies.serving)
    assert serving is not None and serving.version == 1
    again = promote(tandem, "v1")
    assert again.status_code == 200 and again.json()["changed"] is False
    with tandem.client() as client:
        back = client.post("/v1/policies/rollback", json={"reason": "worse"})
    assert back.status_code == 200 and back.json()["version"] == "v0"
    assert fingerprint(tandem) == "v0"
    with tandem.client() as client:
        history = client.get("/v1/policies/v1").json()["promotions"]
        states = {policy["version"]: policy["state"] for policy in client.get("/v1/policies").json()["data"]}
    assert (history[-1]["outcome"], history[-1]["reason"]) == ("succeeded", "test")
    assert states["v0"] == "serving" and states["v1"] == "retired"


def test_a_rollback_that_waited_takes_nothing_back_that_was_promoted_meanwhile(tandem: Tandem) -> None:
    promote(tandem, "v1")
    passing = tandem.store.write(leases.acquire, leases.ENGINES, "passing_change@elsewhere", 600.0)
    with ThreadPoolExecutor(1) as threads, tandem.client() as client:
        rolling = threads.submit(client.post, "/v1/policies/rollback", json={"reason": "worse"})
        wait_for(lambda: tandem.gateway._changing.asking is not None, READY_TIMEOUT_S, "the rollback to wait")
        change = {"kind": "promote", "reason": "better", "force": False, "actor": "test"}
        tandem.store.write(policies.set_serving, 2, **change)
        tandem.store.write(leases.release, leases.ENGINES, passing)
        answer = rolling.result()
    assert answer.status_code == 409 and "meanwhile" in answer.json()["detail"]
    assert tandem.store.read(policies.serving).version == 2
    wait_for(lambda: fingerprint(tandem) == "v2", READY_TIMEOUT_S, "what was promoted meanwhile")


def test_the_new_weights_are_what_is_served(tandem: Tandem) -> None:
    """Greedy replies of a version are the same after a reload in place, with the prefix already cached by another."""
    request = chat(
        temperature=0, max_tokens=24, messages=[{"role": "user", "content": "Tell me how to cut a cake. " * 12}]
    )

    def reply() -> str:
        with tandem.client("chat") as client:
            return str(client.post("/v1/chat/completions", json=request).json()["choices"][0]["message"]["content"])

    promote(tandem, "v1")
    first = reply()
    promote(tandem, "v2")
    other = reply()
    promote(tandem, "v0")
    promote(tandem, "v1")
    assert reply() == first
    promote(tandem, "v2")
    assert reply() == other


def test_no_request_fails_and_no_reply_mixes_while_promoting(tandem: Tandem) -> None:
    people = 6
    with chatting(tandem, people) as chats:
        for version in ("v1", "v2", "v1", "v0"):
            assert promote(tandem, version).status_code == 200
            # More than were being written: some were asked for since.
            answered = len(chats.ids) + 2 * people
            wait_for(lambda answered=answered: len(chats.ids) >= answered, READY_TIMEOUT_S, "chats after the promotion")
    assert chats.failures == [] and chats.versions(tandem.store) >= {0, 1, 2}


def test_a_comparison_pairs_the_serving_version_with_the_other_one(tandem: Tandem) -> None:
    promote(tandem, "v1")
    sides = set()
    with tandem.client("vote") as client:
        # Until both orders were drawn: by chance this many are never alike.
        for _ in range(64):
            said = client.post("/v1/chat/completions", json=chat(n=2, max_tokens=2)).json()
            path = f"/v1/comparisons/{said['comparison_id']}"
            assert client.get(path).json()["versions"] is None
            client.put(f"{path}/vote", json={"objective": "helpful", "preferred": "tie"})
            sides.add(tuple(client.get(path).json()["versions"]))
            if len(sides) == 2:
                break
    assert sides == {("v0", "v1"), ("v1", "v0")}


def test_unknown_versions(tandem: Tandem) -> None:
    missing = promote(tandem, "v99")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert promote(tandem, "one").status_code == 422


@pytest.mark.parametrize("harm", ["changed", "missing", "nan", "shape"])
def test_a_folder_that_must_not_be_served_changes_nothing(tandem: Tandem, harm: str) -> None:
    version = spoiled_version(tandem.store, tandem.settings, harm)
    answer = promote(tandem, f"v{version}")
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_invalid")
    assert fingerprint(tandem) == "v0"
    with tandem.client() as client:
        (attempt,) = client.get(f"/v1/policies/v{version}").json()["promotions"]
    assert attempt["outcome"] == "failed" and attempt["detail"]
    wait_until_ready(tandem)
    assert promote(tandem, "v1").status_code == 200


def test_weights_that_are_not_the_learners_fail_the_probe(tandem: Tandem) -> None:
    """Whole, finite and of the right shape, but not what the learner scored."""
    version = spoiled_version(tandem.store, tandem.settings, "probe")
    answer = promote(tandem, f"v{version}")
    assert answer.status_code == 422 and "nats" in answer.json()["detail"]
    assert fingerprint(tandem) == "v0"
    wait_until_ready(tandem)
    assert 0 in tandem.gateway.pool.loaded() and version not in tandem.gateway.pool.loaded()


def test_an_engine_that_dies_is_started_again_and_nobody_notices(tandem: Tandem) -> None:
    before = engine_pid(tandem, 0)
    os.kill(before, signal.SIGKILL)
    with tandem.client("chat") as client:
        for _ in range(8):
            answer = client.post("/v1/chat/completions", json=chat(max_tokens=2))
            assert (answer.status_code, answer.json().get("system_fingerprint")) == (200, "v0")
    wait_for_another_engine(tandem, 0, before)
    assert 0 in tandem.gateway.pool.loaded()


def test_an_engine_that_hangs_is_found_out(tandem: Tandem) -> None:
    """It accepts connections and answers nothing; a chat that it had taken goes to another one."""
    (slot,) = [slot for slot in tandem.gateway.pool.slots if slot.version == 0][:1]
    before = engine_pid(tandem, slot.index)
    os.kill(before, signal.SIGSTOP)
    with tandem.client("chat") as client:
        answers = [client.post("/v1/chat/completions", json=chat(max_tokens=2)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    wait_for_another_engine(tandem, slot.index, before)


@pytest.mark.parametrize("stream", [True, False])
def test_a_chat_whose_engine_dies_before_the_first_token_goes_to_another_one(tandem: Tandem, stream: bool) -> None:
    """The process that computes dies; the one before it outlives it, and says that the reply broke off."""
    (slot,) = [slot for slot in tandem.gateway.pool.slots if slot.version == 0][:1]
    before, answers = engine_pid(tandem, slot.index), list[httpx.Response]()

    def ask() -> None:
        with tandem.client("chat") as client:
            answers.append(client.post("/v1/chat/completions", json=chat(stream=stream)))

    cores = psutil.Process(before).children(recursive=True)
    for core in cores:
        core.suspend()
    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: slot.in_flight, 60, "the chat to be asked of it")
    # The engine has taken it by now, as far as it can be known from outside.
    time.sleep(0.5)
    for core in cores:
        core.kill()
    asking.join()
    assert answers[0].status_code == 200 and "error" not in answers[0].text
    said = events(answers[0].text)[-1] if stream else answers[0].json()
    assert said["choices"][0]["finish_reason"] and said["system_fingerprint"] == "v0"
    wait_for_another_engine(tandem, slot.index, before)


def test_a_reply_that_breaks_off_says_so(tandem: Tandem) -> None:
    """After its first token nobody can stand in: the stream ends with an error, and the record keeps what there was."""
    with tandem.client("chat") as client:
        body = chat(stream=True, max_tokens=450, ignore_eos=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = (line for line in answer.iter_lines() if line)
            next(lines)
            (slot,) = [slot for slot in tandem.gateway.pool.slots if slot.in_flight]
            before = engine_pid(tandem, slot.index)
            os.kill(before, signal.SIGKILL)
            rest = list(lines)
        request_id = answer.headers["x-request-id"]
    assert rest[-1] != "data: [DONE]"
    assert json.loads(rest[-1][6:])["error"]["code"] == "engine_unavailable"
    (row,) = tandem.store.read(lambda session: session.query(Sample).filter(Sample.request_id == request_id).all())
    assert row.status == "failed" and row.token_ids and row.version_first is not None
    wait_for_another_engine(tandem, slot.index, before)


def wait_for_another_engine(tandem: Tandem, slot: int, before: int) -> None:
    wait_for(lambda: engine_pid(tandem, slot) != before, READY_TIMEOUT_S, "another engine")
    wait_until_ready(tandem)
