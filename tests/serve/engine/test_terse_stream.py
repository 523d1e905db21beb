"""A terse stream on its way out, to clients of any speed, from engines that break off: nothing is lost or doubled."""

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from serve.asgi import Message
from serve.engine.terse_stream import LOWEST_LOGPROB, Outbox, Stream

WORDS = [f"wörd{number} " for number in range(40)]


class Connection:
    """A client that takes `quick` messages at once, and each further one after a while; it leaves when told to."""

    def __init__(self, quick: int = 1000) -> None:
        self.quick = quick
        self.messages: list[Message] = []
        self.left = asyncio.Event()

    async def send(self, message: Message) -> None:
        if len(self.messages) >= self.quick:
            for _ in range(3):
                await asyncio.sleep(0)
        if not self.left.is_set():
            self.messages.append(message)

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def events(self) -> list[Any]:
        body = b"".join(message.get("body", b"") for message in self.messages)
        lines = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")]
        assert lines.pop() == b""
        return [line.decode() if line == b"[DONE]" else orjson.loads(line) for line in lines]


def output(number: int, reason: str | None = None, logprob: float | None = None) -> Any:
    """vLLM's, for word `number`, whose token is the number."""
    completion = SimpleNamespace(
        text=WORDS[number],
        token_ids=(number,),
        logprobs=None if logprob is None else [{-1: None, number: SimpleNamespace(logprob=logprob)}],
        finish_reason=reason,
    )
    return SimpleNamespace(outputs=[completion], finished=reason is not None, prompt_token_ids=[1, 2, 3])


@pytest.mark.parametrize("quick", [0, 1, 5, 1000])
async def test_all_goes_out_once_and_in_order(quick: int) -> None:
    connection, outbox = Connection(quick), Outbox()
    stream = Stream("assistant", outbox, connection.send)
    await stream.begin()
    finishing = asyncio.ensure_future(stream.finish(connection.receive))
    for number in range(len(WORDS)):
        assert not stream.is_whole
        stream.put(output(number, "length" if number == len(WORDS) - 1 else None, logprob=-number / 8))
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await finishing
    assert stream.is_whole
    role, *chunks, usage, done = connection.events
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"]["content"] for choice in choices] == WORDS
    assert [choice["token_ids"] for choice in choices] == [[number] for number in range(len(WORDS))]
    assert [choice["logprobs"]["content"] for choice in choices] == [[{"logprob": -n / 8}] for n in range(len(WORDS))]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(WORDS) - 1) + ["length"]
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43}
    assert done == "[DONE]"
    assert [message.get("more_body") for message in connection.messages].count(False) == 1


async def test_the_streams_of_a_step_go_out_together() -> None:
    connection, outbox = Connection(), Outbox()
    streams = [Stream("assistant", outbox, connection.send) for _ in range(3)]
    for stream in streams:
        stream.put(output(0))
    assert not connection.messages
    await asyncio.sleep(0)
    assert len(connection.messages) == 3


async def test_no_logprobs_where_none_were_asked_for_and_none_below_what_json_can_say() -> None:
    connection = Connection()
    stream = Stream("assistant", Outbox(), connection.send)
    stream.put(output(0))
    stream.put(output(1, logprob=float("-inf")))
    await asyncio.sleep(0)
    _, first, second = connection.events
    assert first["choices"][0]["logprobs"] is None
    assert second["choices"][0]["logprobs"] == {"content": [{"logprob": LOWEST_LOGPROB}]}


@pytest.mark.parametrize("broken", [RuntimeError("the engine died"), output(1, "error")], ids=["died", "gave up"])
async def test_an_engine_that_breaks_off_is_told_of(broken: Any) -> None:
    connection = Connection()
    stream = Stream("assistant", Outbox(), connection.send)
    stream.put(output(0))
    stream.put(broken)
    stream.put(output(2))
    async with asyncio.timeout(30):
        await stream.finish(connection.receive)
    *_, said, error, done = connection.events
    assert said["choices"][0]["delta"]["content"] == WORDS[0]
    assert "message" in error["error"] and done == "[DONE]"


@pytest.mark.parametrize("quick", [0, 1000])
async def test_a_client_that_leaves_ends_the_stream(quick: int) -> None:
    connection = Connection(quick)
    stream = Stream("assistant", Outbox(), connection.send)
    finishing = asyncio.ensure_future(stream.finish(connection.receive))
    stream.put(output(0))
    await asyncio.sleep(0)
    connection.left.set()
    async with asyncio.timeout(30):
        await finishing
    assert not stream.is_whole


async def test_a_connection_that_breaks_is_raised_where_it_is_waited_for() -> None:
    async def send(message: Message) -> None:
        raise RuntimeError("response already completed")

    stream = Stream("assistant", Outbox(), send)
    stream.put(output(0))
    with pytest.raises(RuntimeError, match="already completed"):
        await stream.finish(Connection().receive)
