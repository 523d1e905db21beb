"""Both ends of a handover, with a real connection between them and the client: nothing lost, doubled or overtaken, and
the record has all of it, however fast the client is and whenever the reply ends.
"""

import asyncio
import contextlib
import math
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from serve.asgi import Message
from serve.chat.streaming import FIRST_HANDOVER, Events
from serve.engine.handover import Client, Handover, Receiver, handover_socket
from serve.engine.slot import Seat, Slot
from serve.engine.terse_stream import Outbox, Stream
from tests.serve.engine.test_terse_stream import WORDS, output
from tests.serve.engine.test_terse_stream import Connection as Asker
from tests.serve.test_streaming import Completion
from tests.waiting import until


class Conversation:
    """A client's connection, the stream of its answer in the process that took the request, and the engine's end."""

    def __init__(
        self, folder: Path, transport: asyncio.Transport, client: socket.socket, head_bytes: int, keep: bool
    ) -> None:
        self.receiver, self.transport, self.client = Receiver(), transport, client
        self.connection = os.fstat(transport.get_extra_info("socket").fileno())
        self.completion = Completion()
        self.generation = self.completion.generations[0]
        self.slot = Slot(0, folder / "engine-0.sock")
        self.slot.state = "ready"
        self.generation._pool = SimpleNamespace(release=Seat.release)  # type: ignore[assignment]
        self.generation._reply.seat = Seat(self.slot)
        self.stream = Stream("assistant", Outbox(), self.send_to_gateway)
        self.receiver.writers[self.generation.reply.id] = self.stream
        if head_bytes:
            self.completion.head = lambda: {"id": "x" * head_bytes}  # type: ignore[method-assign]
        connection = SimpleNamespace(to_hand_over=lambda: transport)
        self.events = Events(self.completion, self.send_to_client, connection, keep=keep)  # type: ignore[arg-type]
        self.received = b""
        self.written = 0

    async def send_to_gateway(self, message: Message) -> None:
        body = message.get("body", b"")
        if body:
            self.completion.engine.data_received(b"%x\r\n%b\r\n" % (len(body), body))
        if message["type"] == "http.response.body" and not message["more_body"]:
            self.completion.engine.data_received(b"0\r\n\r\n")

    async def send_to_client(self, message: Message) -> None:
        body = message["body"]
        self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    async def write(self, count: int, *, end: bool = False) -> None:
        """The engine writes so many words more."""
        for _ in range(count):
            is_last = end and self.written == len(WORDS) - 1
            self.stream.put(output(self.written, "length" if is_last else None, logprob=-self.written / 8))
            self.written += 1
            await turn()

    async def hand_over(self) -> None:
        """The engine writes until it may write to the client, who takes all of it."""
        # The first word comes with the role, which is no block of text.
        for _ in range(1 + FIRST_HANDOVER):
            await self.write(1)
            self.take()
        assert self.events.is_handed_over

    def take(self) -> None:
        """The client takes what there is."""
        try:
            while arrived := self.client.recv(1 << 16):
                self.received += arrived
        except BlockingIOError:
            pass

    @property
    def text(self) -> str:
        """Of the client, whose chunks must all be whole."""
        text, left = "", self.received
        while left:
            length, _, left = left.partition(b"\r\n")
            chunk, left = left[: int(length, 16)], left[int(length, 16) :]
            assert left.startswith(b"\r\n") and len(chunk) == int(length, 16)
            left = left[2:]
            for event in chunk.split(b"\n\n")[:-1]:
                if b'"delta"' in event:
                    text += orjson.loads(event[6:])["choices"][0]["delta"].get("content", "")
        return text


async def turn() -> None:
    """Everything that can go on without new events goes on."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def conversation(
    folder: Path, *, buffer_bytes: int = 1 << 20, head_bytes: int = 0, keep: bool = False
) -> AsyncIterator[Conversation]:
    """`head_bytes` are what each chunk has before its text, about; with `keep` the answer is kept."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        client.connect(listener.getsockname())
        client.setblocking(False)
        ours, _ = listener.accept()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        one = Conversation(folder, transport, client, head_bytes, keep)
        try:
            with one.receiver.listening(handover_socket(one.slot.client.socket)):
                yield one
        finally:
            transport.close()
            await turn()


def holders(file: os.stat_result | None = None) -> int:
    """How many descriptors of this process are of `file`, or of memory for copies: threads of other tests open and
    close files of their own meanwhile.
    """
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if file:
                count += os.path.samestat(descriptor.stat(), file)
            else:
                count += descriptor.readlink().match("/memfd:copies*")
    return count


@pytest.mark.parametrize("buffer_bytes", [1 << 20, 1024], ids=["quick client", "slow client"])
@pytest.mark.parametrize("first", [1, 5, len(WORDS) - 1], ids=["one word before", "five before", "all but one before"])
async def test_all_arrives_once_and_in_order_and_is_in_the_record(
    tmp_path: Path, buffer_bytes: int, first: int
) -> None:
    before = holders()
    async with conversation(tmp_path, buffer_bytes=buffer_bytes) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(first)
        for _ in range(len(WORDS) - first):
            await one.write(1, end=True)
            if buffer_bytes > 1024 or one.written % 8 == 0:
                one.take()
        async with asyncio.timeout(60):
            while not sending.done() or one.transport.get_write_buffer_size():
                await asyncio.sleep(0.01)
                one.take()
        one.take()
        assert await sending is True
        reply = one.generation.reply
        assert one.text == reply.text == "".join(WORDS)
        assert reply.token_ids == list(range(len(WORDS)))
        assert reply._logprobs == [-number / 8 for number in range(len(WORDS))]
        assert one.events.is_handed_over
        one.completion.generations[0].stop()
        assert not one.slot.handovers and holders() == before and holders(one.connection) == 1
    assert not holders(one.connection)


async def test_a_reply_that_ends_before_the_engine_may_write_comes_the_usual_way() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as copies:
        connection = Asker()
        stream = Stream("assistant", Outbox(), connection.send)
        client = Client(os.dup(ours.fileno()), os.dup(copies.fileno()), "", "")
        stream.put(output(0))
        await turn()
        stream.hand_over(client)
        await turn()
        stream.put(output(1))
        await turn()
        stream.put(output(2, "length"))
        async with asyncio.timeout(60):
            await stream.finish(connection.receive)
        said = [chunk["choices"][0] for chunk in connection.events if isinstance(chunk, dict) and chunk.get("choices")]
        assert "".join(choice["delta"]["content"] for choice in said) == "".join(WORDS[:3])
        assert said[-1]["finish_reason"] == "length" and not copies.read()
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


async def test_a_reply_that_has_ended_takes_no_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs, tempfile.TemporaryFile() as copies:
        connection, files = Asker(), [os.fstat(file.fileno()) for file in (ours, copies)]
        stream = Stream("assistant", Outbox(), connection.send)
        stream.put(output(0, "length"))
        stream.hand_over(Client(ours.detach(), os.dup(copies.fileno()), "", ""))
        assert [holders(file) for file in files] == [0, 1]
        async with asyncio.timeout(60):
            await stream.finish(connection.receive)
        assert not any(isinstance(event, dict) and "handover" in event for event in connection.events)


async def test_who_leaves_takes_the_connection_along() -> None:
    ours, theirs = socket.socketpair()
    with theirs, tempfile.TemporaryFile() as copies:
        connection, files = Asker(), [os.fstat(file.fileno()) for file in (ours, copies)]
        stream = Stream("assistant", Outbox(), connection.send)
        finishing = asyncio.ensure_future(stream.finish(connection.receive))
        stream.hand_over(Client(ours.detach(), os.dup(copies.fileno()), "", ""))
        await turn()
        connection.left.set()
        async with asyncio.timeout(60):
            await finishing
        theirs.setblocking(False)
        assert theirs.recv(1) == b"" and [holders(file) for file in files] == [0, 1]


class Told:
    """In the place of an engine's stream: what was answered to it."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    def hand_over(self, client: Client) -> None:
        client.close()

    def go_on(self, *, go: bool) -> None:
        self.told.append(go)


@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("is_out", [True, False])
async def test_it_is_handed_over_only_when_nothing_waits_to_be_written(
    tmp_path: Path, is_busy: bool, is_out: bool
) -> None:
    engine = Told()
    async with conversation(tmp_path, buffer_bytes=1024) as one:
        one.receiver.writers["smp_1"] = engine
        path = handover_socket(one.slot.client.socket)
        handover = Handover(path, "smp_1", one.transport, lambda: is_busy)
        assert handover.offer(b"", b"")
        if not is_out:
            one.transport.write(bytes(1 << 20))
        handover.hear(b'{"handover":"taken"}')
        await turn()
        assert engine.told == [is_out and not is_busy] == [handover.is_on]
        handover.close()
        one.transport.abort()


async def test_what_goes_out_within_a_few_turns_is_waited_for_and_an_engine_too_busy_to_hear_it_told_again(
    tmp_path: Path,
) -> None:
    async with conversation(tmp_path) as one:
        engine = one.receiver.writers["smp_1"] = Told()
        path, waits = handover_socket(one.slot.client.socket), iter([True, True])
        handover = Handover(path, "smp_1", one.transport, lambda: next(waits, False))
        assert handover.offer(b"", b"")
        away = path.rename(tmp_path / "away")
        handover.hear(b'{"handover":"taken"}')
        await turn()
        assert not engine.told
        away.rename(path)
        await until(lambda: engine.told)
        assert engine.told == [True]
        handover.close()


async def test_what_comes_after_it_was_kept_is_not_held_back(tmp_path: Path) -> None:
    # Of such chunks a few are more than the client takes.
    async with conversation(tmp_path, buffer_bytes=1024, head_bytes=3000) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(1 + FIRST_HANDOVER)
        assert one.generation._handover is not None and one.transport.get_write_buffer_size()
        await one.write(10)
        assert not one.events.is_handed_over
        while one.transport.get_write_buffer_size():
            one.take()
            await turn()
        one.take()
        assert one.text == "".join(WORDS[: one.written])
        one.generation.stop()
        assert await sending is False


async def test_what_a_client_does_not_take_comes_before_the_end(tmp_path: Path) -> None:
    async with conversation(tmp_path, buffer_bytes=1024, head_bytes=600) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.hand_over()
        # In one step of the engine.
        for number in range(one.written, len(WORDS)):
            one.stream.put(output(number, "length" if number == len(WORDS) - 1 else None))
        async with asyncio.timeout(60):
            while not sending.done() or one.transport.get_write_buffer_size():
                await turn()
                one.take()
        one.take()
        assert await sending is True
        assert one.text == one.generation.reply.text == "".join(WORDS)
        assert one.received.index(b'"finish_reason":"length"') > one.received.index(WORDS[-2].encode())


async def test_what_comes_the_usual_way_again_stands_after_what_went_straight(tmp_path: Path) -> None:
    async with conversation(tmp_path, buffer_bytes=1024, head_bytes=600) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.hand_over()
        engine, late = one.completion.engine, list[bytes]()
        hear, engine.data_received = engine.data_received, late.append  # type: ignore[method-assign]
        # In one step of the engine, and more than the client takes of one.
        for _ in range(20):
            one.stream.put(output(one.written))
            one.written += 1
        await turn()
        assert one.stream._client is None
        await one.write(5)
        # What says so comes together with more.
        hear(b"".join(late))
        engine.data_received = hear  # type: ignore[method-assign]
        while one.transport.get_write_buffer_size():
            await turn()
            one.take()
        await one.write(5)
        assert one.generation.reply.token_ids == list(range(one.written))
        newest = orjson.dumps(WORDS[one.written - 1])
        await until(lambda: one.take() or (one.received.endswith(b"\r\n") and newest in one.received[-200:]))
        assert one.text == "".join(WORDS[: one.written])
        one.generation.stop()
        assert await sending is False


async def test_what_is_kept_for_who_asks_again_comes_by_this_process(tmp_path: Path) -> None:
    async with conversation(tmp_path, keep=True) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(len(WORDS), end=True)
        assert await sending is True and not one.events.is_handed_over
        assert all(orjson.dumps(word) in b"".join(one.events.kept) for word in WORDS)


async def test_what_is_given_up_gets_nothing_more_from_an_engine_that_goes_on(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(20)
        assert one.events.is_handed_over
        one.generation.stop()
        await one.write(10)
        assert await sending is False
        one.take()
        assert one.text == one.generation.reply.text == "".join(WORDS[:20])


async def test_where_no_engine_listens_nothing_changes(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        handover_socket(one.slot.client.socket).unlink()
        before = holders()
        sending = asyncio.create_task(one.events.send_all())
        await one.write(len(WORDS), end=True)
        assert await sending is True and not one.events.is_handed_over
        one.take()
        assert one.text == "".join(WORDS) and holders() == before and holders(one.connection) == 1


async def test_an_engine_that_is_too_busy_is_asked_again(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        path = handover_socket(one.slot.client.socket)
        away = path.rename(tmp_path / "away")
        sending = asyncio.create_task(one.events.send_all())
        # The first word comes with the role, which is no block of text.
        await one.write(1 + FIRST_HANDOVER)
        away.rename(path)
        await one.write(FIRST_HANDOVER - 1)
        assert not one.events.is_handed_over
        await one.write(1)
        assert one.events.is_handed_over
        one.generation.stop()
        assert await sending is False


async def test_what_is_for_no_stream_is_not_kept_open(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        before = holders()
        handover = Handover(handover_socket(one.slot.client.socket), "smp_1", one.transport, lambda: False)
        assert handover.offer(b"", b"")
        await turn()
        handover.close()
        assert holders() == before and holders(one.connection) == 1


async def test_of_a_client_that_has_left_the_record_has_what_was_written(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(20)
        assert one.events.is_handed_over and not one.generation._unread
        one.client.close()
        await one.write(10)
        one.completion.cancelled = True
        one.generation.stop()
        assert await sending is False
        assert one.generation.reply.token_ids == list(range(30))
        assert one.generation.reply.text == "".join(WORDS[:30])


async def test_what_an_engine_writes_while_the_record_is_read_comes_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with conversation(tmp_path) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(20)
        handover = one.generation._handover
        assert handover is not None and one.events.is_handed_over
        take_events = handover.take_events

        def take_while_it_writes() -> list[bytes]:
            events = take_events()
            if one.written < 30:
                one.stream.put(output(one.written))
                one.stream.flush()
                one.written += 1
            return events

        monkeypatch.setattr(handover, "take_events", take_while_it_writes)
        while one.written < 30:
            _ = one.generation.reply
        assert one.generation.reply.token_ids == list(range(30))
        one.generation.stop()
        assert await sending is False


async def test_an_engine_that_is_killed_leaves_what_it_wrote_to_the_record(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(30)
        one.completion.engine.connection_lost(None)
        assert await sending is False and one.completion.recorded == ["failed"]
        one.take()
        assert one.text == one.generation.reply.text == "".join(WORDS[:30])
        assert b"engine_unavailable" in one.received


async def test_what_an_engine_writes_to_a_client_shows_that_it_lives(tmp_path: Path) -> None:
    async with conversation(tmp_path) as one:
        sending = asyncio.create_task(one.events.send_all())
        await one.write(20)
        assert one.slot.has_written_within(60)
        one.slot._wrote_at = -math.inf
        assert not one.slot.has_written_within(60)
        await one.write(1)
        assert one.slot.has_written_within(60)
        one.generation.stop()
        assert await sending is False
