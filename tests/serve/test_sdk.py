"""The openai SDK, sync and async, with all it does by itself: parsing, accumulating, retrying, closing."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from feedback.schema import Sample
from serve.chat.rate_limits import RateLimits
from tests.serve.api_process import engine_pid
from tests.serve.conftest import Tandem
from tests.serve.test_chat import engines_say, engines_write_nothing
from tests.serve.test_wire import NO_BLANKS, TOOL, comparisons

pytestmark = pytest.mark.engine

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 2 plus 3?"}]
NOWHERE = "redis://127.0.0.1:1/0"
TO_THE_END = {"ignore_eos": True}


class Answer(BaseModel):
    yes: bool


@pytest.fixture
def sdk(tandem: Tandem) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tandem.url}/v1", api_key=tandem.secrets["vote"], max_retries=0) as client:
        yield client


def asynchronous(tandem: Tandem) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{tandem.url}/v1", api_key=tandem.secrets["vote"], max_retries=0)


def samples_of(tandem: Tandem, user: str) -> list[Sample]:
    return tandem.store.read(lambda session: session.query(Sample).filter(Sample.user == user).all())


def wait_for_sample(tandem: Tandem, user: str) -> Sample:
    deadline = time.monotonic() + 60
    while not (rows := samples_of(tandem, user)) and time.monotonic() < deadline:
        time.sleep(0.05)
    (row,) = rows
    return row


def test_it_parses_a_structured_output(sdk: openai.OpenAI) -> None:
    said = sdk.chat.completions.parse(
        model="tandem", messages=MESSAGES, response_format=Answer, logit_bias=NO_BLANKS, max_tokens=64, temperature=0
    )
    assert isinstance(said.choices[0].message.parsed, Answer)


def test_it_accumulates_a_stream(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="tandem", messages=MESSAGES, seed=3, max_tokens=120, logprobs=True)
    options: Any = {"include_usage": True}
    with sdk.chat.completions.stream(
        model="tandem", messages=MESSAGES, seed=3, max_tokens=120, logprobs=True, stream_options=options
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.current_completion_snapshot  # as below: whether the reply ends in time is the policy's affair
    assert kinds.count("content.done") == 1 and "content.delta" in kinds and "logprobs.content.delta" in kinds
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason and final.usage == whole.usage
    assert final.choices[0].logprobs and whole.choices[0].logprobs
    assert final.choices[0].logprobs.content == whole.choices[0].logprobs.content


def test_it_accumulates_a_tools_call(sdk: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "add"}}
    tools: Any = [TOOL]
    with sdk.chat.completions.stream(
        model="tandem", messages=MESSAGES, tools=tools, tool_choice=choice, max_tokens=120, temperature=0,
        logit_bias=NO_BLANKS,
    ) as stream:  # fmt: skip
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    arguments: Any = call.function.parsed_arguments
    assert call.id and call.function.name == "add" and arguments["a"] in range(10)


def test_its_errors_are_those_of_their_status(tandem: Tandem, sdk: openai.OpenAI) -> None:
    def ask(client: openai.OpenAI = sdk, **fields: Any) -> None:
        client.chat.completions.create(**{"model": "tandem", "messages": MESSAGES, "max_tokens": 2} | fields)

    with pytest.raises(openai.BadRequestError) as bad:
        ask(temperature=-1)
    assert bad.value.request_id and bad.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        ask(model="gpt")
    with pytest.raises(openai.AuthenticationError):
        ask(sdk.with_options(api_key="nobody's"))
    with pytest.raises(openai.PermissionDeniedError):
        sdk.get("/policies", cast_to=object)
    gateway, usual = tandem.gateway, tandem.gateway.rate_limits
    limited = tandem.settings.serve.model_copy(update={"requests_per_minute": 1})
    gateway.rate_limits = RateLimits(limited, NOWHERE)
    try:
        with pytest.raises(openai.RateLimitError) as much:
            for _ in range(2):
                ask()
    finally:
        gateway.rate_limits = usual
    assert int(much.value.response.headers["retry-after"]) > 0


def test_an_error_in_mid_stream_is_raised(tandem: Tandem, sdk: openai.OpenAI) -> None:
    """The engine stands still after its first token, longer than a reply may take."""
    gateway, usual = tandem.gateway, tandem.gateway.settings
    hasty = usual.serve.model_copy(update={"request_timeout_s": 3.0})
    gateway.settings = usual.model_copy(update={"serve": hasty})
    user, stopped, said = uuid.uuid4().hex, list[int](), ""
    try:
        with pytest.raises(openai.APIError, match="took too long"):
            for chunk in sdk.chat.completions.create(
                model="tandem", messages=MESSAGES, stream=True, max_tokens=450, user=user, extra_body=TO_THE_END
            ):
                said += chunk.choices[0].delta.content or ""
                if not stopped:
                    stopped += [engine_pid(tandem, slot.index) for slot in gateway.pool.slots if slot.in_flight]
                    os.kill(stopped[0], signal.SIGSTOP)
    finally:
        gateway.settings = usual
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    row = wait_for_sample(tandem, user)
    assert row.status == "failed" and row.text.startswith(said)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_takes_too_long_before_it_begins_is_recorded_and_not_asked_for_again(
    tandem: Tandem, sdk: openai.OpenAI, stream: bool
) -> None:
    gateway, usual = tandem.gateway, tandem.gateway.settings
    gateway.settings = usual.model_copy(update={"serve": usual.serve.model_copy(update={"request_timeout_s": 0.001})})
    user = uuid.uuid4().hex
    try:
        with pytest.raises(openai.InternalServerError) as error:
            sdk.with_options(max_retries=2).chat.completions.create(
                model="tandem", messages=MESSAGES, max_tokens=450, user=user, stream=stream, extra_body=TO_THE_END
            )
    finally:
        gateway.settings = usual
    assert (error.value.status_code, error.value.code) == (504, "timeout")
    assert wait_for_sample(tandem, user).status == "failed"
    assert len(samples_of(tandem, user)) == 1


class LosesTheFirstAnswer(httpx.HTTPTransport):
    """The request was answered, and the client never hears of it."""

    retries: list[str]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.retries = [*getattr(self, "retries", []), request.headers["x-stainless-retry-count"]]
        if len(self.retries) == 1:
            answer.read()
            raise httpx.ReadTimeout("lost", request=request)
        return answer


def test_its_own_retry_finds_the_first_ones_comparison(tandem: Tandem) -> None:
    transport, user, before = LosesTheFirstAnswer(), uuid.uuid4().hex, comparisons(tandem)
    with openai.OpenAI(
        base_url=f"{tandem.url}/v1", api_key=tandem.secrets["vote"], max_retries=2,
        http_client=httpx.Client(transport=transport),
    ) as client:  # fmt: skip
        said = client.chat.completions.create(model="tandem", messages=MESSAGES, n=2, max_tokens=4, user=user)
    assert transport.retries == ["0", "1"] and len(said.choices) == 2
    assert comparisons(tandem) == before + 1 and len(samples_of(tandem, user)) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_who_closes_stops_the_engine(tandem: Tandem, stream: bool) -> None:
    user = uuid.uuid4().hex
    async with asynchronous(tandem) as client:
        asked = client.chat.completions.create(
            model="tandem", messages=MESSAGES, stream=stream, max_tokens=450, user=user, extra_body=TO_THE_END
        )
        if stream:
            chunks: Any = await asked
            async for _ in chunks:
                break
            await chunks.close()
        else:
            task = asyncio.ensure_future(asked)
            while not await asyncio.to_thread(engines_say, tandem, "num_requests_running"):
                assert not task.done()
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    row = await asyncio.to_thread(wait_for_sample, tandem, user)
    assert row.status == "cancelled" and row.version_first is not None
    # Not to its end, which it would come to much sooner.
    await asyncio.to_thread(engines_write_nothing, tandem)
    assert len(row.token_ids or []) < 450


async def test_a_comparison_streams_to_the_async_sdk(tandem: Tandem) -> None:
    texts = ["", ""]
    async with (
        asynchronous(tandem) as client,
        client.chat.completions.stream(model="tandem", messages=MESSAGES, n=2, max_tokens=12) as stream,
    ):
        async for event in stream:
            if event.type == "chunk":
                for choice in event.chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
        # The final one it refuses to give where a reply was cut at its length.
        final = stream.current_completion_snapshot
    assert [choice.message.content for choice in final.choices] == texts
    assert [choice.index for choice in final.choices] == [0, 1]
