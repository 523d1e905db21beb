"""A reply's beginning against engines that the test plays: until the first token another engine takes over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from serve.chat.generation import Generation
from serve.chat.request import parse
from serve.engine.client import EngineLost
from serve.engine.pool import Pool
from serve.engine.terse_stream import GAVE_UP
from serve.errors import EngineRefused, FailedTwice
from serve.metrics import Metrics
from tests.serve.test_streaming import HEAD, chunk

BODY = {"model": "tandem", "stream": True, "messages": [{"role": "user", "content": "x"}]}
ROLE = chunk({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
ERROR = chunk({"error": {"message": "the engine broke off"}})
BREAKS = {
    "at once": b"",
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
    return Generation(pool, Metrics(), parse(orjson.dumps(BODY), 2, 1), 0, None)


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
        with pytest.raises(FailedTwice) as failed:
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
