"""What chats were answered to have used is what their key is told to have used, day by day."""

import httpx
import pytest

from feedback.store import keys, samples, usage
from tests.feedback.record import sample
from tests.feedback.test_usage import midnight
from tests.serve.conftest import Tandem

COUNTS = ("chats", "prompt_tokens", "reply_tokens", "comparisons", "votes")


def test_days_come_today_first_and_go_on(quiet: Tandem) -> None:
    midnight(quiet.store)
    key, _ = quiet.store.write(keys.create, "chat", "a program")
    at = key.created_at
    rows = [sample(key_id=key.id, created_at=at, prompt_tokens=4, reply_tokens=6) for _ in range(2)]
    quiet.store.write(samples.add, rows)
    with quiet.client() as client:
        page = client.get("/v1/usage").json()
        (one,) = client.get("/v1/usage", params={"key": key.prefix}).json()["data"]
        assert client.get("/v1/usage", params={"after": one["id"]}).json()["data"] == []
        assert client.get("/v1/usage", params={"after": "0001-01-01"}).json()["data"] == []
        assert client.get("/v1/usage", params={"key": "nobody"}).status_code == 404
        for wrong in ("yesterday", "0", "2026-13-01", "20260301"):
            assert client.get("/v1/usage", params={"after": wrong}).status_code == 422, wrong
    assert page["object"] == "list" and page["has_more"] is False
    assert page["first_id"] == page["last_id"] == one["id"]
    assert page["data"] == [one]
    assert one["keys"] == [
        {
            "key_id": key.id, "prefix": key.prefix, "name": "a program",
            "chats": 2, "prompt_tokens": 8, "reply_tokens": 12, "comparisons": 0, "votes": 0,
        }
    ]  # fmt: skip


def ask(client: httpx.Client, **fields: object) -> dict[str, int]:
    body = {"model": "tandem", "messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 6, **fields}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    said: dict[str, int] = answer.json()["usage"]
    return said


@pytest.mark.engine
def test_it_adds_up_to_what_was_answered(tandem: Tandem) -> None:
    key, secret = tandem.store.write(keys.create, "vote", "who adds up")
    with tandem.client(headers={"authorization": f"Bearer {secret}"}) as client:
        said = [ask(client), ask(client, messages=[{"role": "user", "content": "Hi"}]), ask(client, n=2)]
        pair = client.get("/v1/comparisons", params={"status": "all"}).json()["data"][0]["id"]
        vote = {"objective": "helpful", "preferred": "tie"}
        assert client.put(f"/v1/comparisons/{pair}/vote", json=vote).status_code == 200
        streamed = {
            "model": "tandem", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True,
            "n": 2, "stream_options": {"include_usage": True},
        }  # fmt: skip
        events = client.post("/v1/chat/completions", json=streamed).text.split("\n\n")
    last = next(httpx.Response(200, text=event[6:]).json() for event in reversed(events) if '"usage":{' in event)
    said.append(last["usage"])
    days = tandem.store.read(usage.since, key.created_at, key.id)
    used = [usage.described(one) for day in days for one in day.used]
    # Around midnight there are two days.
    assert {name: sum(one[name] for one in used) for name in COUNTS} == {
        "chats": 4,
        "prompt_tokens": sum(one["prompt_tokens"] for one in said),
        "reply_tokens": sum(one["completion_tokens"] for one in said),
        "comparisons": 2,
        "votes": 1,
    }
