"""What a client may send, and may leave unsent or untaken, before its connection ends."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn

from serve import connection
from serve.asgi import Receive, Scope, Send
from serve.connection import LARGEST_HEAD_BYTES, Connection
from tests.waiting import until

PATIENCE_S = 30.0
# More than a socket takes that nobody reads from.
LARGE_BYTES = 1 << 25
HEAD = b"POST / HTTP/1.1\r\nhost: here\r\n"
MANY = 600
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]


class App:
    """Says how much it was sent; then it says much more where `/large` was asked for, goes on for ever where `/endless`
    was, and waits for `goes_on` where `/waits` was. It answers at once where `/early` was, whatever is still to come,
    and says how long its answer is where `/short` was.
    """

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            size, more = size + len(message["body"]), message["more_body"]
        headers = [(b"content-length", b"11")] if scope["path"] == "/short" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"%d bytes;" % size, "more_body": True})
        if scope["path"] == "/endless":
            gone = asyncio.ensure_future(receive())
            while not gone.done():
                await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
                await asyncio.sleep(0)
            self.left.set()
        if scope["path"] == "/large":
            await send({"type": "http.response.body", "body": bytes(LARGE_BYTES), "more_body": True})
        if scope["path"] == "/waits":
            await self.goes_on.wait()
        await send({"type": "http.response.body", "body": b"end"})


@pytest.fixture
def app() -> App:
    return App()


class Counting(Connection):
    """Says how much of what was sent has arrived."""

    arrived = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.arrived += len(data)


@pytest.fixture
def made() -> list[Counting]:
    """The server's side of each connection, the first one first."""
    return []


async def until_all_arrived(made: list[Counting], count: int) -> None:
    await until(lambda: made and made[0].arrived >= count)


@pytest.fixture
async def time_is_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the clock of the loop go past what a request may take. Whoever waited for the machine's would, where it is
    busy, have it go before the request has come.
    """
    loop = asyncio.get_running_loop()
    now = loop.time
    return lambda: monkeypatch.setattr(loop, "time", lambda: now() + 2 * connection.SLOWEST_REQUEST_S)


@pytest.fixture
async def connect(app: App, made: list[Counting]) -> AsyncIterator[Connect]:
    """Opens a connection to a server of `app`."""
    config = uvicorn.Config(app, http=Connection, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    opened: list[asyncio.StreamWriter] = []
    loop = asyncio.get_running_loop()

    def make() -> Connection:
        made.append(Counting(config, server.server_state, {}))
        return made[-1]

    listening = await loop.create_server(make, "127.0.0.1", 0)

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.transport.abort()
    listening.close()
    for task in [*server.server_state.tasks]:
        task.cancel()
    await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """All until the server closes; a reset is an end, too."""
    said = bytearray()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                piece = await reader.read(65_536)
            except ConnectionResetError:
                return bytes(said)
            if not piece:
                return bytes(said)
            said += piece


@pytest.mark.parametrize("after", [b"", CHUNKED + b"1\r\nz\r\n0\r\n"], ids=["a head", "trailers"])
@pytest.mark.parametrize("between", [b"", b"\r\nx: "], ids=["one", "many"])
async def test_headers_that_do_not_end_are_not_kept(connect: Connect, after: bytes, between: bytes) -> None:
    _, writer = await connect()
    writer.write(HEAD + after + b"x: ")
    sent = 0
    with pytest.raises(ConnectionError):
        while sent < 100 * LARGEST_HEAD_BYTES:
            writer.write(b"y" * 10_000 + between)
            sent += 10_000
            await writer.drain()


async def test_headers_that_are_too_long_are_431(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(HEAD + b"x: " + b"y" * LARGEST_HEAD_BYTES)
    assert (await rest_of(reader)).startswith(b"HTTP/1.1 431 ")


async def test_what_is_no_request_is_400_and_has_an_id_like_every_answer(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"no request\r\n\r\n")
    said = await rest_of(reader)
    assert said.startswith(b"HTTP/1.1 400 ") and b"\r\nx-request-id: req_" in said


async def test_what_is_no_request_does_not_get_into_the_answer_before_it(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(HEAD.replace(b"/ ", b"/waits ") + b"content-length: 2\r\n\r\nzz")
    await reader.readuntil(b"2 bytes;")
    writer.write(b"no request\r\n\r\n")
    assert b"HTTP/" not in await rest_of(reader)


async def test_whoever_else_has_it_open_a_client_sees_its_end(connect: Connect, made: list[Counting]) -> None:
    reader, writer = await connect()
    writer.write(HEAD.replace(b"/ ", b"/waits ") + b"content-length: 0\r\n\r\n")
    await reader.readuntil(b"0 bytes;")
    handed_over = made[0].to_hand_over()
    assert handed_over is not None
    with socket.socket(fileno=os.dup(handed_over.get_extra_info("socket").fileno())):
        writer.write(b"\0\r\n\r\n")
        assert b"end" not in await rest_of(reader)


async def test_the_end_of_a_body_is_no_head(connect: Connect, made: list[Counting]) -> None:
    reader, writer = await connect()
    begun = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\nz" % (LARGEST_HEAD_BYTES + 2)
    writer.write(begun)
    await until_all_arrived(made, len(begun))
    writer.write(b"z" * (LARGEST_HEAD_BYTES + 1))
    assert b"%d bytes;end" % (LARGEST_HEAD_BYTES + 2) in (await rest_of(reader)).replace(b"\r\n3\r\n", b"")


async def test_a_body_in_many_small_chunks_is_no_head(connect: Connect) -> None:
    reader, writer = await connect()
    chunks = LARGEST_HEAD_BYTES // 4
    writer.write(HEAD + b"connection: close\r\n" + CHUNKED)
    for _ in range(chunks // 16):
        writer.write(16 * b"1\r\nz\r\n")
        await writer.drain()
    writer.write(b"0\r\nx: y\r\n\r\n")
    assert b"%d bytes;" % chunks in await rest_of(reader)


async def test_bodies_are_no_heads_however_they_arrive(connect: Connect) -> None:
    reader, writer = await connect()
    body = b"z" * (3 * LARGEST_HEAD_BYTES)
    request = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    writer.write(3 * request)
    writer.write(HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nzz")
    said = await rest_of(reader)
    assert said.count(b"%d bytes;" % len(body)) == 3 and said.count(b"2 bytes;") == 1 and b"431" not in said


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (HEAD, b"HTTP/1.1 408 "),
        (HEAD + b"content-length: 9\r\n\r\n", b"HTTP/1.1 408 "),
        (HEAD + b"content-length: 9\r\n\r\nzz", b"HTTP/1.1 408 "),
    ],
)
async def test_a_request_that_does_not_come_is_not_waited_for(
    connect: Connect, made: list[Counting], time_is_up: Callable[[], None], sent: bytes, answer: bytes
) -> None:
    reader, writer = await connect()
    writer.write(sent)
    await until_all_arrived(made, len(sent))
    time_is_up()
    said = await rest_of(reader)
    assert said.startswith(answer) and bool(said) == bool(answer)
    assert (b"\r\nx-request-id: req_" in said) == bool(answer)


async def test_who_was_answered_before_the_end_of_the_body_is_not_waited_for(
    connect: Connect, made: list[Counting], time_is_up: Callable[[], None]
) -> None:
    reader, writer = await connect()
    begun = HEAD.replace(b"/ ", b"/early ") + b"content-length: 4\r\n\r\nzz"
    writer.write(begun)
    await reader.readuntil(b"end")
    writer.write(b"zz")
    await until_all_arrived(made, len(begun) + 2)
    time_is_up()
    await rest_of(reader)


async def test_who_was_answered_and_does_not_end_the_body_gets_no_second_answer(
    connect: Connect, made: list[Counting], time_is_up: Callable[[], None]
) -> None:
    reader, writer = await connect()
    begun = HEAD.replace(b"/ ", b"/early ") + b"content-length: 4\r\n\r\nz"
    writer.write(begun)
    await reader.readuntil(b"end")
    # So that it is not the end of an idle connection.
    writer.write(b"z")
    await until_all_arrived(made, len(begun) + 1)
    time_is_up()
    assert await rest_of(reader) == b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_last_answer_that_is_early_resets_nothing(connect: Connect, made: list[Counting], version: str) -> None:
    """A client that still sends would hear of that, and not of the answer."""
    head = f"POST /early HTTP/{version}\r\nhost: here\r\nconnection: close\r\ncontent-length: {LARGE_BYTES}\r\n\r\n"
    reader, writer = await connect()
    writer.write(head.encode())
    assert (await rest_of(reader)).endswith(b"end" if version == "1.0" else b"0\r\n\r\n")
    writer.write(bytes(LARGE_BYTES) + HEAD + b"content-length: 0\r\n\r\n")
    await until_all_arrived(made, len(head) + LARGE_BYTES)
    assert made[0].transport.is_closing() and made[0].cycle.scope["path"] == "/early"


async def test_a_body_that_waited_for_an_answer_before_it_has_all_its_time(
    connect: Connect, app: App, made: list[Counting]
) -> None:
    reader, writer = await connect()
    writer.write(HEAD.replace(b"/ ", b"/waits ") + b"content-length: 2\r\n\r\nzz")
    await reader.readuntil(b"2 bytes;")
    writer.write(HEAD + b"content-length: 3\r\n\r\nz")
    await until(lambda: made[0]._slowest is not None)
    assert made[0]._slowest is not None
    since = made[0]._slowest.when()
    app.goes_on.set()
    await reader.readuntil(b"end")
    assert made[0]._slowest is not None and made[0]._slowest.when() > since
    writer.write(b"zz")
    await reader.readuntil(b"3 bytes;")


@pytest.mark.parametrize("after", [b"\r\n", HEAD, HEAD + b"content-length: 9\r\n\r\nzz"])
async def test_what_comes_after_a_request_does_not_end_its_answer(
    connect: Connect, app: App, made: list[Counting], time_is_up: Callable[[], None], after: bytes
) -> None:
    reader, writer = await connect()
    request = HEAD.replace(b"/ ", b"/waits ") + b"content-length: 2\r\n\r\nzz" + after
    writer.write(request)
    await reader.readuntil(b"2 bytes;")
    await until_all_arrived(made, len(request))
    time_is_up()
    await asyncio.sleep(0.05)
    app.goes_on.set()
    await asyncio.wait_for(reader.readuntil(b"end"), PATIENCE_S)


async def test_who_takes_nothing_is_gone(connect: Connect, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TAKES_NOTHING_S", 0.2)
    _, writer = await connect()
    writer.write(HEAD.replace(b"/ ", b"/endless ") + b"content-length: 0\r\n\r\n")
    await asyncio.wait_for(app.left.wait(), PATIENCE_S)


async def test_who_takes_it_later_is_not(connect: Connect, made: list[Counting]) -> None:
    reader, writer = await connect()
    writer.write(HEAD.replace(b"/ ", b"/large ") + b"connection: close\r\ncontent-length: 0\r\n\r\n")
    await until(lambda: made and made[0]._untaken is not None)
    assert len(await rest_of(reader)) > LARGE_BYTES
    assert made[0]._untaken is None


async def test_more_than_there_may_be_are_closed_at_once(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the files is for the engines and the record."""
    monkeypatch.setattr(connection, "most_connections", lambda: 2)
    few = [await connect() for _ in range(2)]
    for reader, writer in few:
        writer.write(HEAD + b"content-length: 2\r\n\r\nzz")
        await reader.readuntil(b"end")
    late, _ = await connect()
    assert await rest_of(late) == b""
    few[0][1].transport.abort()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            reader, writer = await connect()
            writer.write(HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nzz")
            if b"2 bytes;" in await rest_of(reader):
                return


async def test_files_are_left_to_the_process() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert most // 2 < connection.most_connections() < most


@pytest.mark.parametrize(
    "wanted",
    [b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n"],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_who_would_like_another_protocol_is_answered_by_this_one(
    connect: Connect, wanted: bytes, at_once: bool
) -> None:
    """As Java's own client does with each request."""
    reader, writer = await connect()
    first = HEAD + b"content-length: 3\r\n\r\nabc"
    asked = HEAD + wanted + b"content-length: 5\r\n\r\nhello"
    for piece in [first + asked + first] if at_once else [bytes([byte]) for byte in first + asked + first]:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        said = b"".join([await reader.readuntil(b"end\r\n0\r\n\r\n") for _ in range(3)])
    assert said.count(b"HTTP/1.1 200 OK") == 3 and said.count(b"3 bytes;") == 2 and said.count(b"5 bytes;") == 1


@pytest.mark.parametrize("path", ["/", "/short"])
@pytest.mark.parametrize("keep", [b"", b"connection: keep-alive\r\n"])
async def test_a_client_of_http_1_0_gets_no_chunks(connect: Connect, path: str, keep: bytes) -> None:
    reader, writer = await connect()
    writer.write(b"POST %s HTTP/1.0\r\n%scontent-length: 3\r\n\r\nabc" % (path.encode(), keep))
    head, _, body = (await rest_of(reader)).partition(b"\r\n\r\n")
    assert body == b"3 bytes;end"
    assert b"transfer-encoding" not in head and (b"content-length: 11" in head) == (path == "/short")
    assert b"connection: close" in head


async def test_it_is_no_proxy(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere:443\r\n\r\n")
    assert (await rest_of(reader)).startswith(b"HTTP/1.1 400 ")


async def test_many_at_once_that_would_like_another_protocol_are_answered(connect: Connect) -> None:
    reader, writer = await connect()
    asked = b"GET / HTTP/1.1\r\nconnection:upgrade\r\nupgrade:h\r\n\r\n"
    writer.write(MANY * asked)
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(MANY):
            assert b"0 bytes;" in await reader.readuntil(b"end\r\n0\r\n\r\n")
