"""A recorded reply is found by what stood in `x-request-id`: by the key that asked, and by an operator's."""

from typing import Any

import httpx
import pytest

from feedback.ids import new_id
from feedback.store import samples
from tests.feedback.record import add_comparison, sample
from tests.serve.conftest import Tandem


def found(client: httpx.Client, request_id: str, **page: object) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = client.get("/v1/samples", params={"request_id": request_id, **page}).json()["data"]
    return data


def test_a_side_of_a_pair_does_not_tell_its_version(quiet: Tandem) -> None:
    left = sample("one", version=3, request_id="req_pair")
    right = sample("two", version=4, request_id="req_pair", version_last=5)
    pair = add_comparison(quiet.store, left, right)
    quiet.store.write(samples.add, [sample("three", version=6, request_id="req_one", user="ann")])
    with quiet.client() as client:
        sides = found(client, "req_pair")
        (alone,) = found(client, "req_one")
        (second,) = found(client, "req_pair", after=left.id)
    assert [side["message"]["content"] for side in sides] == ["one", "two"]
    assert {side["comparison_id"] for side in sides} == {pair}
    assert not any(version in str(sides) for version in ("v3", "v4", "v5"))
    assert [side["mixed"] for side in sides] == [None, None]
    assert second == sides[1]
    assert (alone["version"], alone["mixed"], alone["comparison_id"], alone["user"]) == ("v6", False, None, "ann")
    assert alone["sampling"] == {"temperature": 1.0} and alone["messages"]


@pytest.mark.engine
def test_the_id_of_an_answer_leads_to_what_was_recorded(tandem: Tandem) -> None:
    body = {"model": "tandem", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    with tandem.client("chat") as client:
        given = client.post("/v1/chat/completions", json=body)
        own = client.post("/v1/chat/completions", json=body, headers={"x-request-id": new_id("mine")})
        streamed = client.post("/v1/chat/completions", json={**body, "stream": True})
        for answer in (given, own):
            (reply,) = found(client, answer.headers["x-request-id"])
            said = answer.json()
            choice = said["choices"][0]
            assert reply["message"]["content"] == choice["message"]["content"]
            assert (reply["version"], reply["finish_reason"]) == (said["system_fingerprint"], choice["finish_reason"])
            assert reply["usage"]["completion_tokens"] == said["usage"]["completion_tokens"]
            assert reply["messages"] == body["messages"] and reply["status"] == "complete"
        (reply,) = found(client, streamed.headers["x-request-id"])
    request_id = given.headers["x-request-id"]
    with tandem.client("operate") as operator, tandem.client("vote") as another:
        assert [one["request_id"] for one in found(operator, request_id)] == [request_id]
        assert found(another, request_id) == []


def test_a_request_that_was_never_is_no_error(quiet: Tandem) -> None:
    with quiet.client() as client:
        assert client.get("/v1/samples", params={"request_id": new_id("req")}).json()["data"] == []
        for wrong in ("", "a b", "x" * 129, "\0"):
            assert client.get("/v1/samples", params={"request_id": wrong}).status_code == 422
        assert client.get("/v1/samples").status_code == 422
