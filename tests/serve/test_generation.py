"""A reply's beginning against engines that the test plays: until the first token another engine takes over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from feedback.settings import ServeSettings
from serve.chat.completions import _all as together
from serve.chat.generation import Generation
from serve.chat.request import parse
from serve.engine import client
from serve.engine.pool import Pool
from serve.engine.terse_stream import GAVE_UP
from serve.engine.transfer import EngineLost
from serve.errors import EngineRefused, ReplyFailed
from serve.metrics import Metrics
from tests.serve.test_streaming import HEAD, chunk
from tests.serve.test_wire import TOOL

BODY = {"model": "tandem", "stream": True, "messages": [{"role": "user", "content": "x"}]}
ROLE = chunk({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
ERROR = chunk({"error": {"message": "the engine broke off"}})
STOPPED = chunk({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "abort", "token_ids": []}]})
BREAKS = {
    "at once": b"",
    "by ending it": HEAD + ROLE + STOPPED + b"0\r\n\r\n",
    "by an event": HEAD + ERROR + b"0\r\n\r\n",
    "after the role": HEAD + ROLE,
    "by an event after the role": HEAD + ROLE + ERROR + b"0\r\n\r\n",
}


REFUSED = chunk({"error": {"message": "no such token", "type": "BadRequestError", "param": "logit_bias", "code": 400}})


def token(number: int, end: str | None = None) -> bytes:
    said = {"index": 0, "delta": {"content": f"word{number}"}, "finish_reason": end, "token_ids": [number]}
    return chunk({"choices": [said]})


WHOLE = HEAD + ROLE + token(1) + token(2, "stop") + b"0\r\n\r\n"


@contextlib.asynccontextmanager
async def engines(folder: Path, *answers: bytes) -> AsyncIterator[Pool]:
    """Engines that hold v0, which serves; each has one answer to everything, then closes."""
    pool = Pool(folder, len(answers), seats_per_slot=4, max_queued=4)
    pool.serving = 0
    async with contextlib.AsyncExitStack() as running:
        for slot, answer in zip(pool.slots, answers, strict=True):
            slot.state, slot.version, slot.wanted = "ready", 0, 0

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                writer.close()

            await running.enter_async_context(
                await asyncio.start_unix_server(serve, folder / f"engine-{slot.index}.sock")
            )
        yield pool


def generation(pool: Pool) -> Generation:
    return Generation(pool, Metrics(), parse(orjson.dumps(BODY), ServeSettings()), 0, None)


def said(chunks: Iterable[dict[str, Any]]) -> str:
    return "".join(found["delta"].get("content", "") for found in chunks)


@pytest.mark.parametrize("broken", BREAKS)
async def test_who_breaks_off_before_the_first_token_is_stood_in_for(tmp_path: Path, broken: str) -> None:
    async with engines(tmp_path, BREAKS[broken], WHOLE) as pool:
        reply = generation(pool)
        await reply.begin("key", record_logprobs=False)
        while not reply.is_whole:
            reply.take()
            await asyncio.sleep(0)
        assert [found["delta"].get("role") for found in reply.pending].count("assistant") == 1
        assert said(reply.pending) == "word1word2" and reply.reply.token_ids == [1, 2]
        assert reply.reply.seat is not None and reply.reply.seat.slot.index == 1
        assert [slot.in_flight for slot in pool.slots] == [0, 0] and pool.slots[0].suspected.is_set()


async def test_what_is_refused_in_the_stream_is_refused_and_asked_of_no_other_engine(tmp_path: Path) -> None:
    async with engines(tmp_path, HEAD + REFUSED + b"0\r\n\r\n", WHOLE) as pool:
        reply = generation(pool)
        with pytest.raises(EngineRefused, match="no such token") as refused:
            await reply.begin("key", record_logprobs=False)
        assert (refused.value.status, refused.value.param) == (400, "logit_bias")
        assert not any(slot.suspected.is_set() or slot.in_flight for slot in pool.slots)


GIVEN_UP = orjson.dumps({"error": {"message": GAVE_UP, "type": "InternalServerError", "param": None, "code": 500}})
GIVES_UP = {
    "by an event": HEAD + chunk(orjson.loads(GIVEN_UP)) + b"0\r\n\r\n",
    "by an event after the role": HEAD + ROLE + chunk(orjson.loads(GIVEN_UP)) + b"0\r\n\r\n",
    "by its status": b"HTTP/1.1 500 Oh\r\ncontent-length: %d\r\n\r\n%s" % (len(GIVEN_UP), GIVEN_UP),
}


@pytest.mark.parametrize("how", GIVES_UP)
async def test_what_engines_give_up_on_is_tried_twice_and_makes_none_of_them_doubted(tmp_path: Path, how: str) -> None:
    async with engines(tmp_path, GIVES_UP[how], WHOLE) as pool:
        reply = generation(pool)
        await reply.begin("key", record_logprobs=False)
        assert reply.reply.seat is not None and reply.reply.seat.slot.index == 1
        assert not pool.slots[0].suspected.is_set()
    async with engines(tmp_path, GIVES_UP[how], GIVES_UP[how], WHOLE) as pool:
        with pytest.raises(ReplyFailed) as failed:
            await generation(pool).begin("key", record_logprobs=False)
        assert failed.value.status == 500
        assert not any(slot.suspected.is_set() or slot.in_flight for slot in pool.slots)


@pytest.mark.parametrize("last", [b"", ERROR + b"0\r\n\r\n"])
async def test_who_breaks_off_after_it_is_not(tmp_path: Path, last: bytes) -> None:
    async with engines(tmp_path, HEAD + ROLE + token(1) + last, WHOLE) as pool:
        reply = generation(pool)
        await reply.begin("key", record_logprobs=False)
        assert reply.reply.seat is not None and reply.reply.seat.slot.index == 0
        reply.pending.clear()
        with pytest.raises(EngineLost):
            while True:
                reply.take()
                await asyncio.sleep(0)


async def test_what_has_come_is_of_the_reply_though_nobody_took_it(tmp_path: Path) -> None:
    async with engines(tmp_path, HEAD + ROLE + token(1)) as pool:
        reply = generation(pool)
        await reply.begin("key", record_logprobs=False)
        assert reply._transfer is not None
        reply._transfer.data_received(token(2) + token(3))
        reply.stop()
        assert reply.reply.token_ids == [1, 2, 3] and reply.reply.text == "word1word2word3"


async def test_a_whole_reply_that_an_engine_ends_unasked_is_written_by_another(tmp_path: Path) -> None:
    async with engines(tmp_path, whole_answer("abort"), whole_answer("stop")) as pool:
        reply = Generation(pool, Metrics(), parse(orjson.dumps(BODY | {"stream": False}), ServeSettings()), 0, None)
        await reply.begin("key", record_logprobs=False)
        assert reply.reply.seat is not None and reply.reply.seat.slot.index == 1
        assert reply.reply.finish_reason == "stop" and pool.slots[0].suspected.is_set()


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"structured_outputs": {"choice": ["a"]}}, 400, "structured_outputs"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, 400, "tools"),
        ({"tools": [TOOL]}, 400, "tools"),
        ({"tools": [TOOL], "tool_choice": "none"}, 500, None),
        ({"response_format": {"type": "text"}, "structured_outputs": {}}, 500, None),
    ],
)
async def test_a_form_that_engines_give_up_on_is_the_clients_to_change(
    tmp_path: Path, fields: dict[str, Any], status: int, param: str | None
) -> None:
    gives_up = GIVES_UP["by its status"]
    async with engines(tmp_path, gives_up, gives_up) as pool:
        with pytest.raises(ReplyFailed) as failed:
            reply = Generation(pool, Metrics(), parse(orjson.dumps(BODY | fields), ServeSettings()), 0, None)
            await reply.begin("key", record_logprobs=False)
        assert (failed.value.status, failed.value.param) == (status, param)


@pytest.mark.parametrize(("fields", "status"), [({}, 500), ({"structured_outputs": {"choice": ["a"]}}, 400)])
async def test_what_an_engine_gives_up_on_in_mid_stream_has_a_code_of_its_own(
    tmp_path: Path, fields: dict[str, Any], status: int
) -> None:
    given_up = HEAD + ROLE + token(1) + chunk(orjson.loads(GIVEN_UP)) + b"0\r\n\r\n"
    async with engines(tmp_path, given_up) as pool:
        reply = Generation(pool, Metrics(), parse(orjson.dumps(BODY | fields), ServeSettings()), 0, None)
        await reply.begin("key", record_logprobs=False)
        reply.pending.clear()
        with pytest.raises(ReplyFailed) as failed:
            while True:
                reply.take()
                await asyncio.sleep(0)
        assert (failed.value.code, failed.value.status) == ("reply_failed", status)
        assert not pool.slots[0].suspected.is_set()


def whole_answer(end: str) -> bytes:
    said = {"message": {"content": "word1"}, "finish_reason": end, "token_ids": [1], "logprobs": None}
    content = orjson.dumps({"choices": [said], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content) + content


class Writing:
    """An engine that writes a whole reply until it is asked by its id to end it; then it takes its time. With `hangs`
    it never does. It is asked in vain until it has `queued` the reply.
    """

    def __init__(self, *, takes_s: float = 0, hangs: bool = False, queued: bool = True) -> None:
        self.asked, self.ended, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.takes_s, self.hangs, self.queued = takes_s, hangs, queued

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST /abort_requests "):
            if not self.hangs:
                if self.queued:
                    self.ended.set()
                self.queued = True
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        else:
            self.asked.set()
            leaving = asyncio.ensure_future(reader.read())
            await asyncio.wait([leaving, asyncio.ensure_future(self.ended.wait())], return_when="FIRST_COMPLETED")
            if self.ended.is_set():
                await asyncio.sleep(self.takes_s)
                writer.write(whole_answer("abort"))
            await leaving
            self.left.set()
        writer.close()


@contextlib.asynccontextmanager
async def cut_off(folder: Path, *engines: Writing) -> AsyncIterator[list[Generation]]:
    """Whole replies, one of each engine, that were begun together and cancelled when all engines wrote."""
    pool = Pool(folder, len(engines), seats_per_slot=1, max_queued=4)
    pool.serving = 0
    async with contextlib.AsyncExitStack() as running:
        for slot, engine in zip(pool.slots, engines, strict=True):
            slot.state, slot.version, slot.wanted = "ready", 0, 0
            await running.enter_async_context(await asyncio.start_unix_server(engine, slot.client.socket))
        chat = parse(orjson.dumps(BODY | {"stream": False}), ServeSettings())
        replies = [Generation(pool, Metrics(), chat, choice, None) for choice in range(len(engines))]
        beginning = asyncio.create_task(together([reply.begin("key", record_logprobs=False) for reply in replies]))
        for engine in engines:
            await engine.asked.wait()
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        assert [slot.in_flight for slot in pool.slots] == [0] * len(engines)
        assert not any(slot.suspected.is_set() for slot in pool.slots)
        yield replies


async def test_a_whole_reply_that_is_cancelled_is_what_was_written_of_it(tmp_path: Path) -> None:
    async with cut_off(tmp_path, Writing(), Writing(takes_s=0.2)) as replies:
        for reply in replies:
            assert reply.reply.token_ids == [1] and reply.reply.text == "word1" and reply.reply.finish_reason is None
            assert reply.reply.usage == {"prompt_tokens": 3, "completion_tokens": 1}


async def test_an_engine_that_had_not_queued_a_reply_is_asked_again_to_end_it(tmp_path: Path) -> None:
    async with cut_off(tmp_path, Writing(queued=False)) as (reply,):
        assert reply.reply.token_ids == [1]


async def test_an_engine_that_does_not_end_a_reply_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends, hangs = Writing(), Writing(hangs=True)
    loop = asyncio.get_running_loop()
    now = loop.time

    async def be_up() -> None:
        await ends.left.wait()
        monkeypatch.setattr(loop, "time", lambda: now() + client.ENDING_TIMEOUT_S)

    time_is_up = asyncio.create_task(be_up())
    async with cut_off(tmp_path, ends, hangs) as replies:
        await hangs.left.wait()
        assert [reply.reply.token_ids for reply in replies if reply.reply.seat] in ([[1], []], [[], [1]])
    await time_is_up
