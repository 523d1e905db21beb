"""A stream on its way out: clients of any speed, engines that break off; nothing is lost, doubled or overtaken."""

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from feedback.errors import RecordUnavailable
from feedback.settings import ServeSettings
from serve.asgi import begin
from serve.chat.generation import READ_TOGETHER, Generation
from serve.chat.request import parse
from serve.chat.streaming import Events
from serve.engine.transfer import Transfer

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
    """What a stream wants of a completion, with replies whose engines' answers the test plays."""

    cancelled = expired = False

    def __init__(self, sides: int = 1) -> None:
        body = {"model": "tandem", "stream": True, "n": sides, "messages": [{"role": "user", "content": "x"}]}
        self.chat = parse(orjson.dumps(body), ServeSettings())
        self.generations: list[Generation] = []
        self.engines: list[Transfer] = []
        for side in range(sides):
            generation = Generation(SimpleNamespace(), SimpleNamespace(), self.chat, side, None)  # type: ignore[arg-type]
            generation._transfer = Transfer(b"", lambda: None, lambda: None)
            generation._transfer.data_received(HEAD)
            self.generations.append(generation)
            self.engines.append(generation._transfer)
        self.engine = self.engines[0]
        self.recorded: list[str] = []

    def head(self) -> dict[str, Any]:
        return {"id": "chatcmpl-1"}

    def tail(self) -> dict[str, Any]:
        return {}

    def stop(self) -> None:
        for engine in self.engines:
            engine.close()

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
        return self.text_of(0)

    def text_of(self, side: int) -> str:
        return "".join(choice["delta"].get("content", "") for choice in self.choices if choice["index"] == side)

    @property
    def choices(self) -> list[dict[str, Any]]:
        found = [event for event in b"".join(self.events).split(b"\n\n") if b'"delta"' in event]
        return [orjson.loads(event[6:])["choices"][0] for event in found]


async def begun(completion: Completion, client: Client, *, keep: bool) -> "asyncio.Task[bool]":
    """What sends the client all that comes, begun."""
    sending = asyncio.create_task(Events(completion, client.send, keep=keep).send_all())  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return sending


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
    assert await sending is True
    assert client.text == "".join(WORDS) and completion.recorded == ["complete"]
    assert client.events[-1].endswith(b"data: [DONE]\n\n") and events.kept == client.events
    reply = completion.generations[0].reply
    assert reply.text == "".join(WORDS) and reply.token_ids == list(range(len(WORDS)))


async def test_the_end_waits_for_the_record_and_no_text_does() -> None:
    completion, client, durable = Completion(), Client(1000), asyncio.Event()

    async def record(_: str) -> None:
        await durable.wait()

    completion.record = record  # type: ignore[assignment,method-assign]
    sending = await begun(completion, client, keep=False)
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


async def test_what_could_not_be_recorded_is_no_answer_to_be_kept() -> None:
    completion, client = Completion(), Client(1000)

    async def record(status: str) -> None:
        if status == "complete":
            raise RecordUnavailable("no room left")

    completion.record = record  # type: ignore[method-assign]
    sending = await begun(completion, client, keep=True)
    completion.engine.data_received(b"".join(map(word, range(len(WORDS)))) + b"0\r\n\r\n")
    assert await sending is False
    assert b'"record_unavailable"' in client.events[-1]


async def test_what_nobody_expected_ends_a_stream_with_a_word() -> None:
    completion, client, asked = Completion(), Client(1000), list[str]()

    async def record(status: str) -> None:
        asked.append(status)
        if status == "complete":
            raise ValueError("what somebody wrote")

    completion.record = record  # type: ignore[method-assign]
    sending = await begun(completion, client, keep=True)
    completion.engine.data_received(b"".join(map(word, range(len(WORDS)))) + b"0\r\n\r\n")
    with pytest.raises(ValueError, match="what somebody wrote"):
        await sending
    assert client.text == "".join(WORDS) and asked == ["complete", "failed"]
    assert b'"internal_error"' in client.events[-1] and b"what somebody" not in client.events[-1]


async def test_who_is_cut_off_by_the_end_of_the_process_is_told() -> None:
    completion, client = Completion(), Client(1000)
    sending = await begun(completion, client, keep=True)
    completion.engine.data_received(word(0))
    sending.cancel()
    assert await sending is False
    assert client.text == WORDS[0] and completion.recorded == ["cancelled"]
    assert b'"engine_unavailable"' in client.events[-1]


@pytest.mark.parametrize("by", ["connection", "event", "event that is the last"])
async def test_a_break_comes_after_all_that_was_written_before_it(by: str) -> None:
    completion, client = Completion(), Client(1000)
    sending = await begun(completion, client, keep=False)
    completion.engine.data_received(word(0))
    error = b"" if by == "connection" else chunk({"error": {"message": "no"}})
    completion.engine.data_received(word(1) + error + (b"0\r\n\r\n" if by == "event that is the last" else b""))
    completion.engine.connection_lost(None)
    await sending
    assert client.text == "".join(WORDS[:2]) and completion.recorded == ["failed"]
    assert orjson.loads(client.events[-1][6:]).keys() == {"error"}


async def test_a_client_that_left_is_sent_no_more() -> None:
    completion, client = Completion(), Client(1000)
    sending = await begun(completion, client, keep=False)
    completion.engine.data_received(word(0))
    completion.cancelled = True
    completion.stop()
    await sending
    assert len(client.events) == 1 and completion.recorded == []


async def pair_of_which_one_is_held(
    client: Client, end: bytes = b"0\r\n\r\n"
) -> tuple[Completion, "asyncio.Task[None]"]:
    """The short reply is slow; the long one is there at once, and is held to its pace."""
    completion = Completion(sides=2)
    sending = asyncio.create_task(Events(completion, client.send, keep=False).send_all())  # type: ignore[arg-type]
    long, short = completion.engines
    await asyncio.sleep(0)
    long.data_received(b"".join(map(word, range(len(WORDS)))) + end)
    for number in (0, 1, 2, len(WORDS) - 1):
        short.data_received(word(number))
        await asyncio.sleep(0.01)
    short.data_received(b"0\r\n\r\n")
    await asyncio.sleep(0)
    assert len(client.text_of(0).split()) < len(WORDS), "nothing was held"
    return completion, sending


async def test_what_is_held_to_the_pace_of_both_arrives_by_itself() -> None:
    client = Client(1000)
    completion, sending = await pair_of_which_one_is_held(client)
    await sending
    assert client.text == "".join(WORDS) and client.text_of(1) == "".join(WORDS[:3]) + WORDS[-1]
    assert completion.recorded == ["complete"] and client.events[-1].endswith(b"data: [DONE]\n\n")
    ends = [choice["finish_reason"] for choice in client.choices if choice["finish_reason"]]
    assert ends == ["length", "length"]


@pytest.mark.parametrize("why", ["cancelled", "expired"])
async def test_what_is_held_when_a_stream_is_given_up_is_not_sent(why: str) -> None:
    client = Client(1000)
    completion, sending = await pair_of_which_one_is_held(client, end=b"")
    setattr(completion, why, True)
    completion.stop()
    await sending
    assert len(client.text_of(0).split()) < len(WORDS)
    assert completion.recorded == ([] if why == "cancelled" else ["failed"])


async def test_what_is_held_when_the_time_is_up_but_all_is_there_is_sent_at_once() -> None:
    client = Client(1000)
    completion, sending = await pair_of_which_one_is_held(client)
    completion.expired = True
    completion.stop()
    before = len(client.events)
    assert await sending is True
    assert client.text == "".join(WORDS) and completion.recorded == ["complete"]
    assert len(client.events) <= before + 2, "one event with the rest, and the end"


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
