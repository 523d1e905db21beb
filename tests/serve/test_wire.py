"""What OpenAI and vLLM understand passes through: stops, log-probabilities, tools, structured outputs, retries."""

import asyncio
import json
import uuid
from typing import Any

import openai
import pytest

from feedback.schema import Comparison
from tests.serve.chats import MESSAGES, chat, events, sample_of, text_of
from tests.serve.conftest import STARTING_POLICY, Tandem, another_process
from tests.serve.test_chat import allowed

pytestmark = pytest.mark.engine

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
# The tiny policy would fill every place where JSON allows blanks with blanks.
VOCABULARY = json.loads((STARTING_POLICY / "tokenizer.json").read_text())["model"]["vocab"]
NO_BLANKS = {
    str(token): -100 for piece, token in VOCABULARY.items() if piece and not piece.strip("\u0120\u010a\u0109\u010d")
}


def post(tandem: Tandem, body: dict[str, Any], **headers: str) -> Any:
    with tandem.client("vote", headers=headers) as client:
        return client.post("/v1/chat/completions", json=body)


def test_stop_strings_end_a_reply(tandem: Tandem) -> None:
    body = chat(temperature=0, ignore_eos=True)
    whole = post(tandem, body).json()["choices"][0]["message"]["content"]
    piece = whole[len(whole) // 2 :][:3]
    stopped = post(tandem, body | {"stop": [piece]}).json()["choices"][0]
    assert stopped["message"]["content"] == whole[: whole.index(piece)] and stopped["finish_reason"] == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_bound_on_tokens(tandem: Tandem, field: str) -> None:
    body = {"model": "tandem", "messages": MESSAGES, field: 3, "ignore_eos": True}
    said = post(tandem, body).json()
    assert said["usage"]["completion_tokens"] == 3 and said["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_only_for_who_asks(tandem: Tandem, stream: bool) -> None:
    def content(**fields: Any) -> list[Any] | None:
        answer = post(tandem, chat(stream=stream, max_tokens=4, ignore_eos=True, **fields))
        if not stream:
            logprobs = answer.json()["choices"][0]["logprobs"]
            return None if logprobs is None else list(logprobs["content"])
        found = [chunk["choices"][0]["logprobs"] for chunk in events(answer.text)]
        assert all(logprobs is None or logprobs.keys() == {"content", "refusal"} for logprobs in found)
        return [entry for logprobs in found if logprobs for entry in logprobs["content"]] or None

    assert content() is None
    asked = content(logprobs=True, top_logprobs=2)
    assert asked is not None and len(asked) == 4
    assert all(entry.keys() == {"token", "logprob", "bytes", "top_logprobs"} for entry in asked)
    assert all(len(entry["top_logprobs"]) >= 2 for entry in asked)


def test_token_ids_only_for_who_asks(tandem: Tandem) -> None:
    assert "token_ids" not in post(tandem, chat()).json()["choices"][0]
    said = post(tandem, chat(return_token_ids=True)).json()
    assert len(said["choices"][0]["token_ids"]) == said["usage"]["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_structured_output_is_one(tandem: Tandem, stream: bool) -> None:
    answer = post(tandem, chat(response_format=FORM, logit_bias=NO_BLANKS, stream=stream, max_tokens=64, temperature=0))
    assert answer.status_code == 200, answer.text
    assert json.loads(text_of(answer)).keys() == {"yes"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_named_tool_is_called(tandem: Tandem, stream: bool) -> None:
    body = chat(
        tools=[TOOL], tool_choice={"type": "function", "function": {"name": "add"}}, max_tokens=120, temperature=0,
        stream=stream, logit_bias=NO_BLANKS,
    )  # fmt: skip
    answer = post(tandem, body)
    assert answer.status_code == 200, answer.text
    if stream:
        chunks = events(answer.text)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert all(deltas[:-1]), "no chunk but the last is empty"
        pieces = [call for delta in deltas for call in delta.get("tool_calls", [])]
        assert deltas[0].keys() == {"role", "tool_calls"}, "no text before the call"
        name = pieces[0]["function"]["name"]
        # Every piece has some, as OpenAI's do: clients add them up.
        arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    else:
        message = answer.json()["choices"][0]["message"]
        (call,) = message["tool_calls"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    assert name == "add" and json.loads(arguments)["a"] in range(10)
    (row,) = sample_of(tandem.store, answer.headers["x-request-id"])
    assert row.message is not None
    (recorded,) = row.message["tool_calls"]
    assert recorded["function"] == {"name": name, "arguments": arguments} and recorded["id"]
    assert row.sampling["tools"] == [TOOL]


def test_tools_that_a_policy_may_leave_alone_are_left_out_where_it_calls_none(tandem: Tandem) -> None:
    with another_process(tandem, leave_out_tools=True) as without:
        offered = post(without, chat(tools=[TOOL], tool_choice="auto", parallel_tool_calls=False))
        some_of = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}
        some = post(without, chat(tools=[TOOL], tool_choice=some_of))
        named = {"type": "function", "function": {"name": "add"}}
        demanded = post(without, chat(tools=[TOOL], tool_choice=named, max_tokens=120, logit_bias=NO_BLANKS))
    for answer in (offered, some):
        assert answer.json()["choices"][0]["message"]["content"] is not None, answer.text
        row = sample_of(tandem.store, answer.headers["x-request-id"])[0]
        assert row.sampling.keys().isdisjoint({"tools", "tool_choice", "parallel_tool_calls"})
    assert demanded.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add"


def test_of_tools_of_which_some_are_allowed_one_of_those_is_called(tandem: Tandem) -> None:
    others = [TOOL | {"function": TOOL["function"] | {"name": name}} for name in ("a_first", "b_second")]
    body = chat(
        tools=[others[0], TOOL, others[1]], tool_choice=allowed("required", "add"), max_tokens=200, temperature=0,
        logit_bias=NO_BLANKS,
    )  # fmt: skip
    answer = post(tandem, body)
    assert answer.status_code == 200, answer.text
    calls = answer.json()["choices"][0]["message"]["tool_calls"]
    assert {call["function"]["name"] for call in calls} == {"add"}
    (row,) = sample_of(tandem.store, answer.headers["x-request-id"])
    assert (row.sampling["tools"], row.sampling["tool_choice"]) == ([TOOL], "required")


def test_nulls_are_as_if_not_there(tandem: Tandem) -> None:
    body = chat(
        n=None, stream=None, stream_options=None, seed=None, stop=None, temperature=None, user=None, tools=None,
        audio=None, functions=None, function_call=None, web_search_options=None, moderation=None,
    )  # fmt: skip
    assert post(tandem, body).status_code == 200


def test_openais_own_fields_are_taken(tandem: Tandem) -> None:
    body = chat(
        metadata={"a": "b"}, store=False, service_tier="auto", parallel_tool_calls=True, frequency_penalty=0.1,
        presence_penalty=0.1, logit_bias={"5": -1}, top_p=0.9, user="u", safety_identifier="s", prompt_cache_key="k",
        prompt_cache_retention="24h", prompt_cache_options={"mode": "implicit"}, modalities=["text"], verbosity="low",
        prediction={"type": "content", "content": "5"},
    )  # fmt: skip
    answer = post(tandem, body)
    assert answer.status_code == 200, answer.text


def test_content_in_text_parts(tandem: Tandem) -> None:
    parts = [{"type": "text", "text": "What is 2 "}, {"type": "text", "text": "plus 3?"}]
    assert post(tandem, chat(messages=[{"role": "user", "content": parts}])).status_code == 200


async def test_many_at_once_with_the_async_sdk(tandem: Tandem) -> None:
    async with openai.AsyncOpenAI(base_url=f"{tandem.url}/v1", api_key=tandem.secrets["chat"], max_retries=0) as sdk:

        async def one(seed: int) -> tuple[str, str]:
            whole = await sdk.chat.completions.create(model="tandem", messages=MESSAGES, seed=seed, max_tokens=12)
            text = ""
            async for chunk in await sdk.chat.completions.create(
                model="tandem", messages=MESSAGES, seed=seed, max_tokens=12, stream=True
            ):
                text += chunk.choices[0].delta.content or ""
            return whole.choices[0].message.content or "", text

        pairs = await asyncio.gather(*[one(seed) for seed in range(12)])
    assert all(whole == streamed for whole, streamed in pairs)
    assert len({whole for whole, _ in pairs}) > 1


def comparisons(tandem: Tandem) -> int:
    return tandem.store.read(lambda session: session.query(Comparison).count())


@pytest.mark.parametrize("stream", [False, True])
def test_an_idempotency_key_makes_one_comparison(tandem: Tandem, stream: bool) -> None:
    before, key = comparisons(tandem), uuid.uuid4().hex
    body = chat(n=2, stream=stream)
    first = post(tandem, body, **{"idempotency-key": key})
    again = post(tandem, body, **{"idempotency-key": key})
    assert first.content == again.content and again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert comparisons(tandem) == before + 1
    other = post(tandem, chat(n=2, seed=1), **{"idempotency-key": key})
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")


def test_the_sdks_retry_makes_no_second_comparison(tandem: Tandem) -> None:
    before, body = comparisons(tandem), chat(n=2, user=uuid.uuid4().hex)
    first = post(tandem, body, **{"x-stainless-retry-count": "0"})
    retried = post(tandem, body, **{"x-stainless-retry-count": "1"})
    assert first.json() == retried.json() and comparisons(tandem) == before + 1
    assert (
        post(tandem, body, **{"x-stainless-retry-count": "0"}).json()["comparison_id"] != first.json()["comparison_id"]
    )


def test_rate_limit_headers(tandem: Tandem) -> None:
    headers = post(tandem, chat()).headers
    assert 0 < int(headers["x-ratelimit-remaining-requests"]) <= int(headers["x-ratelimit-limit-requests"])
