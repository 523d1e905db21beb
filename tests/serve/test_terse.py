"""Terse streams beside vLLM's own, from the same real engine: the same reply, token by token, and the same refusals."""

from typing import Any

import orjson
import pytest

from serve.engine import terse
from serve.engine.client import CHAT, EngineClient
from serve.engine.terse import Terse
from serve.engine.terse_stream import TERSE_HEADER
from tests.serve.conftest import Tandem

ASKED = {
    "messages": [{"role": "user", "content": "Name three colors."}],
    "max_tokens": 24,
    "temperature": 0,
    "stream": True,
    "stream_options": {"include_usage": True},
    "return_token_ids": True,
    "logprobs": True,
    "top_logprobs": 0,
}
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def engine(tandem: Tandem) -> EngineClient:
    client: EngineClient = tandem.gateway.pool.slots[0].client
    # The gateway's connections belong to the loop of its own thread.
    return EngineClient(client.socket)


async def answer(engine: EngineClient, body: dict[str, Any], *, tersely: bool) -> tuple[int, bytes]:
    transfer = await engine.chat(body, "r", terse=tersely)
    return await transfer.wait_for_status(), await transfer.wait_for_end()


def events(content: bytes) -> list[dict[str, Any]]:
    *said, done, rest = content.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [orjson.loads(event.removeprefix(b"data: ")) for event in said]


def is_terse(content: bytes) -> bool:
    return b'"created"' not in content


def as_read(content: bytes) -> dict[str, Any]:
    """What the gateway reads of a stream. How many tokens come in one chunk is a matter of time, not of the reply."""
    said: dict[str, Any] = {"text": "", "logprobs": [], "token_ids": []}
    for chunk in events(content):
        if not chunk["choices"]:
            said["usage"] = {name: chunk["usage"][name] for name in USAGE}
            continue
        (choice,) = chunk["choices"]
        assert choice["index"] == 0 and "finish_reason" not in said
        said |= {"role": choice["delta"]["role"]} if "role" in choice["delta"] else {}
        said["text"] += choice["delta"].get("content") or ""
        said["logprobs"] += [entry["logprob"] for entry in (choice.get("logprobs") or {}).get("content") or ()]
        said["token_ids"] += choice.get("token_ids") or []
        said |= {"finish_reason": choice["finish_reason"]} if choice.get("finish_reason") else {}
    return said


@pytest.mark.engine
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"logprobs": None, "top_logprobs": None},
        {"temperature": 1.0, "seed": 11},
        {"temperature": 1.3, "seed": 12, "top_p": 0.8, "frequency_penalty": 0.4},
        {"max_tokens": 1},
        {"max_tokens": None, "max_completion_tokens": 3},
        {"stop": [" "]},
        {"stop": [" "], "include_stop_str_in_output": True},
        {"messages": [{"role": "user", "content": "🙂 ß 漢"}], "temperature": 2.0, "seed": 13, "max_tokens": 60},
        {"structured_outputs": {"choice": ["red", "green"]}},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}],
         "add_generation_prompt": False, "continue_final_message": True},
    ],
    ids=lambda fields: "-".join(fields) or "greedy",
)  # fmt: skip
async def test_the_same_reply_is_told(engine: EngineClient, fields: dict[str, Any]) -> None:
    body = ASKED | fields
    told = [await answer(engine, body, tersely=tersely) for tersely in (True, False)]
    assert [status for status, _ in told] == [200, 200]
    assert [is_terse(content) for _, content in told] == [True, False]
    terse_one, own = [as_read(content) for _, content in told]
    assert terse_one == own
    assert terse_one.keys() == {"role", "text", "logprobs", "token_ids", "finish_reason", "usage"}


@pytest.mark.engine
@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "word " * 5000}]},
        {"max_tokens": 10**6},
        {"temperature": -1},
        {"structured_outputs": {"regex": "("}},
        {"messages": []},
        {"model": "nobody"},
    ],
    ids=["prompt", "max_tokens", "temperature", "regex", "messages", "model"],
)
async def test_refusals_are_vllms_own(engine: EngineClient, fields: dict[str, Any]) -> None:
    told = []
    for tersely in (True, False):
        transfer = await engine.chat(ASKED | fields, "r", terse=tersely, model=fields.get("model", "policy"))
        told.append((await transfer.wait_for_status(), await transfer.wait_for_end()))
    assert told[0] == told[1]
    status, content = told[0]
    assert status in (400, 404) or b'"error"' in content


@pytest.mark.engine
@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL]},
        {"n": 2, "temperature": 1},
        {"stream": False, "stream_options": None},
        {"include_reasoning": False},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_what_would_change_the_form_of_the_reply_is_vllms_own(
    engine: EngineClient, fields: dict[str, Any]
) -> None:
    status, content = await answer(engine, ASKED | fields, tersely=True)
    assert status == 200 and not is_terse(content)


@pytest.mark.engine
@pytest.mark.parametrize("fields", [{}, {"temperature": 1.0, "seed": 14, "top_p": 0.9}])
async def test_the_numbers_are_the_tokens_log_probabilities(engine: EngineClient, fields: dict[str, Any]) -> None:
    asked = ASKED | fields
    _, content = await answer(engine, asked | {"stream": False, "stream_options": None}, tersely=False)
    whole = orjson.loads(content)
    (choice,) = whole["choices"]
    scored = (await engine.score(whole["prompt_token_ids"] + choice["token_ids"], 60))[len(whole["prompt_token_ids"]) :]
    told = as_read((await answer(engine, asked, tersely=True))[1])
    assert told["token_ids"] == choice["token_ids"] and len(scored) > 10
    assert told["logprobs"] == pytest.approx(scored, abs=1e-4)
    assert [entry["logprob"] for entry in choice["logprobs"]["content"]] == pytest.approx(scored, abs=1e-4)


@pytest.mark.engine
def test_the_gateway_asks_for_them_unless_its_client_asks_about_tokens(
    tandem: Tandem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def chat(self: EngineClient, *arguments: Any, terse: bool = False, **named: Any) -> Any:
        asked.append(terse)
        return await original(self, *arguments, terse=terse, **named)

    original = EngineClient.chat
    monkeypatch.setattr(EngineClient, "chat", chat)
    body = {"model": "tandem", "messages": ASKED["messages"], "max_tokens": 2}
    with tandem.client() as client:
        for fields in ({"stream": True}, {"stream": True, "logprobs": True}, {}):
            assert client.post("/v1/chat/completions", json=body | fields).status_code == 200
    assert asked == [True, False, False]


async def test_under_another_vllm_all_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_on = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed_on.append(scope["path"])

    monkeypatch.setattr(terse, "TESTED_WITH", "0.1.0")
    scope = {"type": "http", "path": CHAT, "headers": [(TERSE_HEADER.encode(), b"1")]}
    await Terse(app)(scope, None, None)  # type: ignore[arg-type]
    assert passed_on == [CHAT]
