"""Chat completions over HTTP with real engines: OpenAI's wire form, attribution, comparisons, cancellation."""

import asyncio
import dataclasses
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from feedback.ids import new_id
from feedback.schema import Comparison, Sample
from tests.clients import client_of_engine
from tests.serve.chats import MESSAGES, chat, events, sample_of, text_of
from tests.serve.conftest import ServerThread, Tandem, another_process, wait_until_ready

pytestmark = pytest.mark.engine


def test_one_reply_is_openais_object_and_recorded(tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(seed=5, temperature=0.7, user="ann"))
    assert answer.status_code == 200
    said = answer.json()
    assert said.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert said["id"].startswith("chatcmpl-") and said["object"] == "chat.completion" and said["model"] == "tandem"
    (choice,) = said["choices"]
    assert choice.keys() == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"].keys() == {"role", "content", "refusal"}
    assert said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] + said["usage"]["completion_tokens"]

    (row,) = sample_of(tandem.store, answer.headers["x-request-id"])
    assert row.text == choice["message"]["content"] and row.status == "complete" and row.user == "ann"
    assert f"v{row.version_first}" == said["system_fingerprint"] and row.version_last == row.version_first
    assert len(row.token_ids or []) == said["usage"]["completion_tokens"] == len(row.logprobs or [])
    assert all(logprob <= 0 for logprob in row.logprobs or [])
    assert row.seed == 5 and row.sampling == {"temperature": 0.7, "max_tokens": 16}
    assert row.messages == MESSAGES and row.finish_reason == choice["finish_reason"]


@pytest.mark.parametrize(
    ("named", "whom"),
    [
        ({"safety_identifier": "ann"}, "ann"),
        ({"user": "bob", "safety_identifier": "ann"}, "bob"),
        ({"user": None, "safety_identifier": None}, None),
    ],
)
def test_whom_a_reply_is_for_is_recorded_by_either_name(
    tandem: Tandem, named: dict[str, str | None], whom: str | None
) -> None:
    with tandem.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(max_tokens=1, **named))
    assert [row.user for row in sample_of(tandem.store, answer.headers["x-request-id"])] == [whom]


def test_the_same_seed_gives_the_same_reply_streamed_or_not(tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        said = [client.post("/v1/chat/completions", json=chat(seed=11, stream=stream)) for stream in (False, True)]
    assert text_of(said[0]) == text_of(said[1]) != ""


def test_a_stream_to_the_letter(tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(stream=True, stream_options={"include_usage": True}))
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = events(answer.text)
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    *body, last = chunks
    assert body[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in body[1:])
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in body)
    assert [chunk["choices"][0]["finish_reason"] for chunk in body].count(None) == len(body) - 1
    assert body[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0
    (row,) = sample_of(tandem.store, answer.headers["x-request-id"])
    assert len(row.token_ids or []) == last["usage"]["completion_tokens"] == len(row.logprobs or [])


def test_a_stream_without_usage_has_no_usage(tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        chunks = events(client.post("/v1/chat/completions", json=chat(stream=True)).text)
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_a_comparison_is_recorded_as_it_was_shown(tandem: Tandem, stream: bool) -> None:
    with tandem.client("vote") as client:
        answer = client.post("/v1/chat/completions", json=chat(n=2, stream=stream))
    assert answer.status_code == 200
    if stream:
        chunks = events(answer.text)
        assert len({chunk["comparison_id"] for chunk in chunks}) == 1
        comparison_id = chunks[0]["comparison_id"]
        texts = ["", ""]
        for chunk in chunks:
            texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    else:
        said = answer.json()
        comparison_id = said["comparison_id"]
        texts = [choice["message"]["content"] for choice in said["choices"]]
        assert [choice["index"] for choice in said["choices"]] == [0, 1]
        assert "system_fingerprint" not in said
    row = tandem.store.read(lambda session: session.get(Comparison, comparison_id))
    assert row is not None
    sides = [
        tandem.store.read(lambda session, id_=id_: session.get(Sample, id_)) for id_ in (row.sample_0, row.sample_1)
    ]
    assert [side.text for side in sides if side] == texts
    assert all(side is not None and side.status == "complete" and side.token_ids for side in sides)


def test_two_streams_go_in_step(tandem: Tandem) -> None:
    with tandem.client("vote") as client:
        answer = client.post("/v1/chat/completions", json=chat(n=2, stream=True, ignore_eos=True, max_tokens=12))
    indexes = [chunk["choices"][0]["index"] for chunk in events(answer.text)]
    assert indexes == [0, 1] * (len(indexes) // 2)


def test_the_openai_sdk_understands_all_of_it(tandem: Tandem) -> None:
    with openai.OpenAI(base_url=f"{tandem.url}/v1", api_key=tandem.secrets["chat"], max_retries=0) as sdk:
        assert "tandem" in {model.id for model in sdk.models.list().data}
        whole = sdk.chat.completions.create(model="tandem", messages=MESSAGES, max_completion_tokens=8, logprobs=True)
        assert whole.choices[0].logprobs and whole.usage
        assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
        stream = sdk.chat.completions.create(
            model="tandem", messages=MESSAGES, stream=True, n=2, max_tokens=8, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
        assert chunks[0].comparison_id.startswith("cmp_")  # type: ignore[attr-defined]
        with pytest.raises(openai.NotFoundError) as missing:
            sdk.chat.completions.create(model="tandem@v77", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.AuthenticationError) as unknown:
            sdk.with_options(api_key="nope").models.list()
        assert unknown.value.code == "invalid_api_key"
        for error in (missing.value, unknown.value):
            assert error.type == "invalid_request_error"


def test_a_version_can_be_asked_for(tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        loaded = [model["id"] for model in client.get("/v1/models").json()["data"] if "@" in model["id"]]
        assert loaded
        for name in loaded:
            said = client.post("/v1/chat/completions", json=chat(model=name)).json()
            assert (said["model"], f"tandem@{said['system_fingerprint']}") == (name, name)


def test_a_client_that_leaves_stops_the_engine(tandem: Tandem) -> None:
    request = chat(stream=True, max_tokens=400, ignore_eos=True)
    with tandem.client("chat") as client, client.stream("POST", "/v1/chat/completions", json=request) as answer:
        next(answer.iter_lines())
        request_id = answer.headers["x-request-id"]
    deadline = time.monotonic() + 60
    while not (rows := sample_of(tandem.store, request_id)) and time.monotonic() < deadline:
        time.sleep(0.05)
    (row,) = rows
    assert row.status == "cancelled" and row.finish_reason is None
    assert 0 < len(row.token_ids or []) < 400 and row.version_first is not None
    assert all(slot.in_flight == 0 for slot in tandem.gateway.pool.slots)


def engines_say(tandem: Tandem, name: str) -> float:
    """The sum over the engines of one of vLLM's own metrics."""
    found = 0.0
    for slot in tandem.gateway.pool.slots:
        with client_of_engine(slot.client.socket) as client:
            lines = client.get("/metrics").text.splitlines()
        found += sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))
    return found


def engines_write_nothing(tandem: Tandem) -> None:
    """Within a moment: they count after a step."""
    deadline = time.monotonic() + 60
    while engines_say(tandem, "num_requests_running"):
        assert time.monotonic() < deadline


def leave_in_the_middle(tandem: Tandem, request: dict[str, Any]) -> list[Sample]:
    """Ask for something whole and go away when the engines have written some of it; what is recorded of it. Where this
    process stood still until all was written, it is asked again."""
    rows = leave(tandem, request)
    for _ in range(9):
        if not all(row.status == "complete" for row in rows):
            break
        rows = leave(tandem, request)
    return rows


def leave(tandem: Tandem, request: dict[str, Any]) -> list[Sample]:
    request_id, body = new_id("req"), json.dumps(request).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: tandem\r\nx-request-id: {request_id}\r\n"
    head += f"authorization: Bearer {tandem.secrets['vote']}\r\ncontent-length: {len(body)}\r\n\r\n"
    before, deadline = engines_say(tandem, "generation_tokens_total"), time.monotonic() + 60
    address = httpx.URL(tandem.url)
    with socket.create_connection((address.host, address.port or 0)) as connection:
        connection.sendall(head.encode() + body)
        while engines_say(tandem, "generation_tokens_total") < before + 10:
            assert time.monotonic() < deadline
    while not (rows := sample_of(tandem.store, request_id)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return rows


@pytest.mark.parametrize("n", [1, 2])
def test_of_a_whole_reply_that_nobody_waited_for_the_record_has_what_was_written(tandem: Tandem, n: int) -> None:
    rows = leave_in_the_middle(tandem, chat(max_tokens=400, ignore_eos=True, n=n, temperature=0, logprobs=True))
    assert len(rows) == n
    for row in rows:
        assert row.status == "cancelled" and row.finish_reason is None and row.version_first is not None
        assert row.version_first == row.version_last and row.usage is not None
        assert 0 < len(row.token_ids or []) < 400 and len(row.logprobs or []) == len(row.token_ids or [])
        assert row.usage["completion_tokens"] == len(row.token_ids or []) and row.usage["prompt_tokens"] > 0
        assert row.text
    assert all(slot.in_flight == 0 for slot in tandem.gateway.pool.slots)
    engines_write_nothing(tandem)
    # Not only as many as there were: they are what is written when somebody waits.
    whole = chat(max_tokens=400, ignore_eos=True, temperature=0, return_token_ids=True)
    with tandem.client("chat") as client:
        for row in rows:
            said = client.post("/v1/chat/completions", json=whole | {"model": f"tandem@v{row.version_first}"}).json()
            assert said["choices"][0]["token_ids"][: len(row.token_ids or [])] == row.token_ids


def test_the_system_prompt_begins_conversations_that_bring_none(tandem: Tandem) -> None:
    instructions = {"role": "system", "content": "Be brief."}
    with (
        another_process(tandem, system_prompt=instructions["content"]) as instructed,
        instructed.client("chat") as client,
        tandem.client("chat") as plain,
    ):
        said = client.post("/v1/chat/completions", json=chat(seed=3))
        reply = said.json()["choices"][0]["message"]["content"]
        went_on = [*MESSAGES, {"role": "assistant", "content": reply}, *MESSAGES]
        further = client.post("/v1/chat/completions", json=chat(messages=went_on))
        own = [{"role": "developer", "content": "Be kind."}, *MESSAGES]
        unlike = client.post("/v1/chat/completions", json=chat(messages=own))
        asked = plain.post("/v1/chat/completions", json=chat(seed=3, messages=[instructions, *MESSAGES])).json()
    assert (said.json()["choices"], said.json()["usage"]) == (asked["choices"], asked["usage"])
    rows = [sample_of(tandem.store, answer.headers["x-request-id"])[0] for answer in (said, further, unlike)]
    assert [row.messages for row in rows] == [[instructions, *MESSAGES], [instructions, *went_on], own]
    assert rows[1].parent == rows[0].id


def test_what_the_end_of_a_process_cuts_off_is_recorded(tandem: Tandem) -> None:
    server = ServerThread(tandem.settings)
    server.server.config.timeout_graceful_shutdown = 0
    server.start()
    ending = dataclasses.replace(tandem, url=server.url, app=server.app)
    wait_until_ready(ending)
    request_ids = [new_id("req") for _ in range(6)]

    def ask(at: int) -> httpx.Response:
        request = chat(max_tokens=400, ignore_eos=True, stream=at % 2 == 1)
        with ending.client("chat", headers={"x-request-id": request_ids[at]}) as client:
            return client.post("/v1/chat/completions", json=request)

    written = engines_say(tandem, "generation_tokens_total")
    with ThreadPoolExecutor(len(request_ids)) as threads:
        asking = [threads.submit(ask, at) for at in range(len(request_ids))]
        while engines_say(tandem, "generation_tokens_total") < written + 10 * len(request_ids):
            assert not asking[0].done()
        server.stop()
    for at, answer in enumerate(future.result() for future in asking):
        begun = at % 2 == 1
        assert (answer.status_code, answer.headers["x-request-id"]) == (200 if begun else 503, request_ids[at])
        said = json.loads(answer.text.split("\n\n")[-2][6:]) if begun else answer.json()
        assert said["error"]["code"] == "engine_unavailable"
    for request_id in request_ids:
        (row,) = sample_of(tandem.store, request_id)
        assert row.status == "cancelled" and row.finish_reason is None, row.status
        assert 0 < len(row.token_ids or []) < 400 and len(row.logprobs or []) == len(row.token_ids or [])
        assert row.version_first == row.version_last is not None
    engines_write_nothing(tandem)


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
DEEP_CALL = {"id": "x", "type": "function", "function": {"name": "add", "arguments": "[" * 5000 + "]" * 5000}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    """OpenAI's way to have some of the tools called only."""
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(messages=[]), "messages"),
        (chat(messages="hello"), "messages"),
        (chat(messages=[{"role": "king", "content": "x"}]), "messages[0].role"),
        (chat(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role"),
        (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": [{"type": ["text"]}]}]), "messages[0].content"),
        (
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]),
            "messages[0].content",
        ),
        (chat(messages=[{"role": "assistant", "tool_calls": [DEEP_CALL]}, *MESSAGES]), "messages[0].tool_calls"),
        (chat(n=3), "n"),
        (chat(safety_identifier="a" * 201), "safety_identifier"),
        (chat(n="2"), "n"),
        (chat(stream="yes"), "stream"),
        (chat(stream_options={"include_usage": True}), "stream_options"),
        (chat(seed=1.5), "seed"),
        (chat(top_logprobs=3), "top_logprobs"),
        (chat(chat_template="{{ 1 }}"), "chat_template"),
        (chat(kv_transfer_params={}), "kv_transfer_params"),
        (chat(modalities=["text", "audio"]), "modalities"),
        (chat(web_search_options={}), "web_search_options"),
        ({"messages": MESSAGES}, "model"),
        (chat(temperature=-1), "temperature"),
        (chat(max_tokens=-1), "max_tokens"),
        (chat(max_tokens=None, max_completion_tokens=0), "max_completion_tokens"),
        (chat(stop="", stream=True), "stop"),
        (chat(frequency_penalty=3), "frequency_penalty"),
        (chat(temperature="hot"), "temperature"),
        (chat(stop=["a", "b", "c", "d", "e"]), "stop"),
        (chat(reasoning_effort='it\'s "most"', stream=True), "reasoning_effort"),
        (chat(logit_bias={"99999999": 1}), "logit_bias"),
        (chat(logit_bias={"99999999": 1}, stream=True), "logit_bias"),
        (chat(stop_token_ids=[-1], stream=True), "stop_token_ids"),
        (chat(structured_outputs={"choice": []}, stream=True), "hoice"),
        (chat(structured_outputs=["red", "green"]), "structured_outputs"),
        (chat(tool_choice={"type": "allowed_tools"}, tools=[ADD]), "tool_choice"),
        (chat(tool_choice=allowed("any", "add"), tools=[ADD]), "tool_choice"),
        (chat(tool_choice=allowed("auto"), tools=[ADD]), "tool_choice"),
        (chat(tool_choice=allowed("auto", "add", "send"), tools=[ADD]), "tool_choice"),
        (chat(tool_choice=allowed("auto", ""), tools=[{}, 5]), "tool_choice"),
        (chat(tool_choice=allowed("required", "add")), "tool_choice"),
        (chat(model="tandem@v99"), "model"),
    ],
)
def test_what_cannot_be_is_refused_in_openais_form(tandem: Tandem, body: dict[str, Any], param: str) -> None:
    with tandem.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == (404 if param == "model" and "model" in body else 400)
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" and error["message"]
    assert not any(sign in error["message"] for sign in ("\n", "{'", "body.")), "in words for people"
    assert error["param"] == param or (error["param"] is None and param in error["message"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "content",
    ["word " * 900, "word " * 40_000, "cake " * 508],
    ids=["counted in tokens", "counted in characters", "no room for a reply"],
)
def test_a_prompt_that_does_not_fit_is_refused_as_openai_does(tandem: Tandem, content: str, stream: bool) -> None:
    messages = [{"role": "user", "content": content}]
    with tandem.client("chat") as client:
        answer = client.post("/v1/chat/completions", json=chat(messages=messages, stream=stream))
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "maximum context length" in error["message"] and "parameter" not in error["message"]


def test_malformed_json_is_refused_in_openais_form(tandem: Tandem) -> None:
    with tandem.client("chat") as client:
        deep = b'{"model":"tandem","messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 900 + b"]" * 900 + b"}"
        for content in (b"{", b"[]", b"", b"\xff", deep):
            answer = client.post("/v1/chat/completions", content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_json")
        half = client.post("/v1/chat/completions", content=b'{"messages": "Do not tell \\ud83d"}').json()["error"]
        assert "no low surrogate in string: line 1 column 27" in half["message"] and "tell" not in half["message"]
        compressed = client.post("/v1/chat/completions", content=b"{}", headers={"content-encoding": "gzip"})
        assert (compressed.status_code, compressed.json()["error"]["code"]) == (415, "unsupported_content_encoding")
        named = {"content-encoding": "utf-8"}
        assert client.post("/v1/chat/completions", json=chat(max_tokens=1), headers=named).status_code == 200


async def test_a_request_id_used_twice_at_once_harms_nobody(tandem: Tandem) -> None:
    headers = {"authorization": f"Bearer {tandem.secrets['chat']}", "x-request-id": "twice"}
    body = chat(max_tokens=40, ignore_eos=True)
    async with httpx.AsyncClient(
        base_url=tandem.url, headers=headers, timeout=60, verify=False, trust_env=False
    ) as client:
        answers = await asyncio.gather(*[client.post("/v1/chat/completions", json=body) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.headers["x-request-id"] for answer in answers} == {"twice"}
    assert len(sample_of(tandem.store, "twice")) == 4
