"""The client of an engine against small servers on a socket: pieces of any size, breaks, and answers at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest

from serve.engine.client import EngineClient
from serve.engine.transfer import EngineLost, Transfer

Answer = Callable[[asyncio.StreamWriter], Coroutine[None, None, None]]
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def engine(path: Path, answer: Answer) -> AsyncIterator[EngineClient]:
    answering: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield EngineClient(path)
    finally:
        server.close()
        for task in filter(None, answering):
            task.cancel()
        await asyncio.gather(*filter(None, answering), return_exceptions=True)


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


async def all_events(transfer: Transfer) -> list[bytes]:
    events: list[bytes] = []
    while True:
        events += transfer.take_events()
        if transfer.ended:
            return events + transfer.take_events()
        await transfer.wait()


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_events_come_whole_however_the_bytes_are_cut(tmp_path: Path, piece: int) -> None:
    body = b"".join(b'data: {"n": %d}\n\n' % number for number in range(20)) + b"data: [DONE]\n\n"

    async def answer(writer: asyncio.StreamWriter) -> None:
        sent = HEAD + b"".join(chunk(body[at : at + piece]) for at in range(0, len(body), piece)) + b"0\r\n\r\n"
        for at in range(0, len(sent), piece):
            writer.write(sent[at : at + piece])
            await asyncio.sleep(0)

    async with engine(tmp_path / "e.sock", answer) as client:
        transfer = await client.chat({}, "r")
        assert await transfer.wait_for_status() == 200
        assert await all_events(transfer) == [b'{"n": %d}' % number for number in range(20)] + [b"[DONE]"]
        assert transfer.ended and not transfer.lost


async def test_an_answer_that_is_there_at_once_is_told_of(tmp_path: Path) -> None:
    """Nothing may be missed between the connection and whoever asked running again."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    async with engine(tmp_path / "e.sock", answer) as client:
        for _ in range(20):
            told: list[str] = []
            transfer = await client.chat({}, "r", lambda t=told: t.append("progress"), lambda t=told: t.append("end"))
            await transfer.wait_for_end()
            assert told == ["progress", "end"]


async def test_a_break_is_told_from_an_end(tmp_path: Path) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"data: 1\n\n"))
        await writer.drain()

    async with engine(tmp_path / "e.sock", answer) as client:
        ends: list[str] = []
        transfer = await client.chat({}, "r", on_end=lambda: ends.append("end"))
        assert await all_events(transfer) == [b"1"]
        assert transfer.lost and ends == ["end"]
        with pytest.raises(EngineLost):
            await transfer.wait_for_end()


@pytest.mark.parametrize(
    "garbage", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"]
)
async def test_what_is_no_http_is_a_lost_engine(tmp_path: Path, garbage: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)

    async with engine(tmp_path / "e.sock", answer) as client:
        transfer = await client.chat({}, "r")
        with pytest.raises(EngineLost):
            await transfer.wait_for_status()
            await transfer.wait_for_end()


async def test_closing_is_seen_by_the_engine(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        try:
            while True:
                writer.write(chunk(b"data: 1\n\n"))
                await writer.drain()
                await asyncio.sleep(0.001)
        finally:
            gone.set()

    async with engine(tmp_path / "e.sock", answer) as client:
        transfer = await client.chat({}, "r")
        await transfer.wait_for_status()
        transfer.close()
        async with asyncio.timeout(30):
            await gone.wait()


async def test_nobody_there(tmp_path: Path) -> None:
    ends: list[str] = []
    with pytest.raises(EngineLost):
        await EngineClient(tmp_path / "nothing.sock").chat({}, "r", on_end=lambda: ends.append("end"))
    assert ends == ["end"]


async def test_a_call_is_bounded(tmp_path: Path) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with engine(tmp_path / "e.sock", answer) as client:
        with pytest.raises(EngineLost, match=r"within 0\.05 s"):
            await client.weight_version(0.05)


async def test_a_refusal_of_the_engine_is_a_lost_call(tmp_path: Path) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}")

    async with engine(tmp_path / "e.sock", answer) as client:
        with pytest.raises(EngineLost, match="500"):
            await client.reload(tmp_path, 60)
