"""A stream on its way out: clients of any speed, engines that break off; nothing is lost, doubled or overtaken."""

import asyncio
import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serve.asgi import begin
from serve.chat.generation import READ_TOGETHER, Generation
from serve.chat.request import parse
from serve.chat.streaming import Events
from serve.engine.client import Transfer

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
WORDS = [f"word{number} " for number in range(2 * READ_TOGETHER)]


def chunk(said: dict[str, Any]) -> bytes:
    event = b"data: " + orjson.dumps(said) + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def word(number: int) -> bytes:
    """As vLLM writes it; each seventh says something else than text, too, so that it has to be read."""
    end = "length" if number == len(WORDS) - 1 else None
    delta = {"content": WORDS[number]} | ({"reasoning": None} if number % 7 == 6 else {})
    said = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end, "token_ids": [number]}
    return chunk({"id": "chatcmpl-0", "choices": [said]})


class Completion:
    """What a stream wants of a completion, with one reply whose engine's answer the test plays."""

    cancelled = expired = False

    def __init__(self) -> None:
        body = {"model": "tandem", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        self.chat = parse(orjson.dumps(body), 2, 1)
        generation = Generation(SimpleNamespace(), SimpleNamespace(), self.chat, 0, None)  # type: ignore[arg-type]
        self.engine = generation._transfer = Transfer(b"", lambda: None, lambda: None)
        self.engine.data_received(HEAD)
        self.generations = [generation]
        self.recorded: list[str] = []

    def head(self) -> dict[str, Any]:
        return {"id": "chatcmpl-1"}

    def tail(self) -> dict[str, Any]:
        return {}

    def stop(self) -> None:
        self.engine.close()

    async def record(self, status: str) -> None:
        self.recorded.append(status)


class Client:
    """Takes `quick` events at once, then one each time the loop comes round some times."""

    def __init__(self, quick: int) -> None:
        self.quick = quick
        self.events: list[bytes] = []
        self.taking = False

    async def send(self, message: dict[str, Any]) -> None:
        assert not self.taking, "one event overtakes another"
        self.taking = True
        if len(self.events) >= self.quick:
            for _ in range(3):
                await asyncio.sleep(0)
        self.taking = False
        self.events.append(message["body"])

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content", "") for choice in self.choices)

    @property
    def choices(self) -> list[dict[str, Any]]:
        found = [event for event in b"".join(self.events).split(b"\n\n") if b'"delta"' in event]
        return [orjson.loads(event[6:])["choices"][0] for event in found]


@pytest.mark.parametrize("quick", [0, 5, 1000])
@pytest.mark.parametrize("burst", [1, 3, 1000])
async def test_everything_arrives_in_order_however_slow_the_client(quick: int, burst: int) -> None:
    completion, client = Completion(), Client(quick)
    events = Events(completion, client.send, keep=True)  # type: ignore[arg-type]
    sending = asyncio.create_task(events.send_all())
    for at in range(0, len(WORDS), burst):
        await asyncio.sleep(0)
        completion.engine.data_received(b"".join(map(word, range(at, min(at + burst, len(WORDS))))))
    completion.engine.data_received(b"0\r\n\r\n")
    await sending
    assert client.text == "".join(WORDS) and completion.recorded == ["complete"]
    assert client.events[-1].endswith(b"data: [DONE]\n\n") and events.kept == client.events
    reply = completion.generations[0].reply
    assert reply.text == "".join(WORDS) and reply.token_ids == list(range(len(WORDS)))


class Wire(asyncio.Transport):
    """Uvicorn's transport to a client that takes `quick` writes, and more each time it is told to."""

    def __init__(self, quick: int) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.quick = quick
        cycle = RequestResponseCycle.__new__(RequestResponseCycle)
        self.flow = FlowControl(self)
        cycle.__dict__.update(
            flow=self.flow, transport=self, scope={"method": "POST"}, chunked_encoding=True, expected_content_length=0,
            response_started=True, response_complete=False, disconnected=False,
        )  # fmt: skip
        self.send = cycle.send

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.flow.write_paused, "one event overtakes another"
        self.written.append(bytes(data))
        if len(self.written) % self.quick == 0:
            self.flow.pause_writing()
            asyncio.get_running_loop().call_soon(self._resume, len(self.written) % 5)

    def _resume(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._resume, turns - 1)
        else:
            self.flow.resume_writing()

    @property
    def body(self) -> bytes:
        """What was written, without HTTP's chunks, each of which is whole."""
        body, left = b"", b"".join(self.written)
        while left:
            length, _, left = left.partition(b"\r\n")
            body += left[: int(length, 16)]
            assert left[int(length, 16) :][:2] == b"\r\n"
            left = left[int(length, 16) + 2 :]
        return body


@pytest.mark.parametrize("quick", [1, 3, 10_000])
@pytest.mark.parametrize("seed", range(4))
async def test_the_straight_way_says_what_the_long_way_says(quick: int, seed: int) -> None:
    """However the engine's bytes are cut: chunks by themselves go straight, others through the parser."""
    engine = b"".join(map(word, range(len(WORDS)))) + b"0\r\n\r\n"
    pieces = [word(number) for number in range(len(WORDS))] + [b"0\r\n\r\n"]
    draw = random.Random(seed)
    if seed:
        cuts = sorted(draw.sample(range(len(engine)), 60) + [len(b"".join(pieces[:at])) for at in range(0, 90, seed)])
        pieces = [engine[start:end] for start, end in pairwise([0, *cuts, len(engine)])]
    completion, wire = Completion(), Wire(quick)
    sending = asyncio.create_task(Events(completion, wire.send, keep=False).send_all())  # type: ignore[arg-type]
    for piece in pieces:
        await asyncio.sleep(0)
        completion.engine.data_received(piece)
    await sending
    long_way, client = Completion(), Client(10_000)
    sending = asyncio.create_task(Events(long_way, client.send, keep=False).send_all())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    for number in range(len(WORDS)):
        long_way.engine.data_received(word(number))
    long_way.engine.data_received(b"0\r\n\r\n")
    await sending
    assert wire.body == b"".join(client.events)
    ours, theirs = completion.generations[0].reply, long_way.generations[0].reply
    assert (ours.text, ours.token_ids, ours.finish_reason) == (theirs.text, theirs.token_ids, theirs.finish_reason)
    assert ours.text == "".join(WORDS) and completion.recorded == ["complete"]


async def test_the_end_waits_for_the_record_and_no_text_does() -> None:
    completion, client, durable = Completion(), Client(1000), asyncio.Event()

    async def record(_: str) -> None:
        await durable.wait()

    completion.record = record  # type: ignore[assignment,method-assign]
    sending = asyncio.create_task(Events(completion, client.send, keep=False).send_all())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    completion.engine.data_received(b"".join(map(word, range(len(WORDS) - 1))))
    completion.engine.data_received(word(len(WORDS) - 1) + b"0\r\n\r\n")
    await asyncio.sleep(0)
    assert client.text == "".join(WORDS)
    assert {choice["finish_reason"] for choice in client.choices} == {None}
    durable.set()
    await sending
    assert client.text == "".join(WORDS)
    assert client.choices[-1] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert [choice["finish_reason"] for choice in client.choices[:-1]] == [None] * len(WORDS)


@pytest.mark.parametrize("by", ["connection", "event"])
async def test_a_break_comes_after_all_that_was_written_before_it(by: str) -> None:
    completion, client = Completion(), Client(1000)
    sending = asyncio.create_task(Events(completion, client.send, keep=False).send_all())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    completion.engine.data_received(word(0))
    completion.engine.data_received(word(1) + (chunk({"error": {"message": "no"}}) if by == "event" else b""))
    completion.engine.connection_lost(None)
    await sending
    assert client.text == "".join(WORDS[:2]) and completion.recorded == ["failed"]
    assert orjson.loads(client.events[-1][6:]).keys() == {"error"}


async def test_a_client_that_left_is_sent_no_more() -> None:
    completion, client = Completion(), Client(1000)
    sending = asyncio.create_task(Events(completion, client.send, keep=False).send_all())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    completion.engine.data_received(word(0))
    completion.cancelled = True
    completion.stop()
    await sending
    assert len(client.events) == 1 and completion.recorded == []


async def test_what_never_waits_has_ended_at_once() -> None:
    done: list[int] = []

    async def quick() -> None:
        done.append(1)

    assert begin(quick()) is None and done == [1]


async def test_the_rest_of_what_waits_can_be_awaited_and_cancelled() -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            seen.append("through")
            await asyncio.sleep(60)
        finally:
            seen.append("ended")

    rest = begin(slow())
    assert rest is not None and seen == []
    waiting = asyncio.ensure_future(_awaited(rest))
    while seen != ["through"]:
        await asyncio.sleep(0.001)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert seen == ["through", "ended"]


async def _awaited(rest: Any) -> None:
    await rest
