"""A client's connection handed over to the engine that writes its reply: text goes from there to the client, and a copy
of all that the record needs into memory that both processes hold. So the process that took the request does nothing
for a token, and misses none when the engine is killed.

What is said by datagrams, on a socket beside the engine's:

    {"id": "smp_...", "head": "data: ...", "end": "..."}    with two files: the client's connection, and the memory
    {"id": "smp_...", "go": true}                           all that came before is on its way to the client

and between them and afterwards in the stream, as events of it:

    {"handover":"taken"}                    what follows waits for `go`; with `go: false` it comes here as before
    {"handover":"ended","rest":"..."}       so do events from here on: the client does not take that much, or is gone;
                                            `rest` is what it has not taken of the bytes that were meant for it

What says that the reply has ended, or failed, always comes in the stream, and after all that went to the client.
"""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import orjson

from serve.engine.transfer import data_of

HANDOVER = b'{"handover":'
TAKEN = b'data: {"handover":"taken"}\n\n'
LARGEST_OFFER_BYTES = 1 << 16
# A client that takes nothing for that many turns of the loop keeps the connection where it is.
TURNS = 4
# Of datagrams the system keeps few.
AGAIN_S = 0.005


def handover_socket(engine_socket: Path) -> Path:
    return engine_socket.with_suffix(".hand")


# In the engine's process.


class Client:
    """The connection of a client, and the memory that holds a copy of what it was sent."""

    def __init__(self, connection: int, copies: int, head: str, end: str) -> None:
        self._files = (connection, copies)
        self._head, self._end = head.encode(), end.encode()

    def write(self, texts: list[str], events: list[bytes]) -> bytes | None:
        """Send chunks with `texts`, for which `events` are what the record needs. None when the client took all, else
        what it did not take. Raises OSError when no copy is taken any more: then nothing was sent.
        """
        connection, copies = self._files
        os.write(copies, b"".join(events))
        chunks = [self._head + orjson.dumps(text) + self._end for text in texts]
        sent, block = 0, b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks])
        with contextlib.suppress(OSError):
            sent = os.write(connection, block)
        return block[sent:] if sent < len(block) else None

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = (-1, -1)


class Writer(Protocol):
    """A stream that can write to a client by itself."""

    def hand_over(self, client: Client) -> None: ...
    def go_on(self, *, go: bool) -> None: ...


class Receiver:
    """Takes what is handed over for the streams in `writers`, by the ids of their replies."""

    def __init__(self) -> None:
        self.writers: dict[str, Writer] = {}

    @contextlib.contextmanager
    def listening(self, path: Path) -> Iterator[None]:
        """In the running loop; not in what is forked from here."""
        path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as offers:
            offers.setblocking(False)
            offers.bind(str(path))
            os.register_at_fork(after_in_child=offers.close)
            loop.add_reader(offers, self._receive, offers)
            try:
                yield
            finally:
                loop.remove_reader(offers)

    def _receive(self, offers: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                said, files, _, _ = socket.recv_fds(offers, LARGEST_OFFER_BYTES, 2)
                fields = orjson.loads(said)
                writer = self.writers.get(fields["id"])
                if writer is not None and len(files) == 2:
                    writer.hand_over(Client(files[0], files[1], fields["head"], fields["end"]))
                    continue
                # Fewer have come where this process may not have more open.
                for file in files:
                    os.close(file)
                if writer is not None and "go" in fields:
                    writer.go_on(go=fields["go"])


RECEIVER = Receiver()


def ended(rest: bytes) -> bytes:
    return b"data: " + orjson.dumps({"handover": "ended", "rest": rest.decode("latin-1")}) + b"\n\n"


# In the process that took the request.


class Handover:
    """One client's connection, offered to the engine that writes its reply and listens at `path`. It `is_busy` while
    something waits to be written to it.
    """

    def __init__(self, path: Path, reply_id: str, transport: asyncio.Transport, is_busy: Callable[[], bool]) -> None:
        self._path, self._id, self._transport, self._is_busy = str(path), reply_id, transport, is_busy
        self._copies: int | None = None
        self._read_bytes = self._seen_bytes = 0
        # The engine may write to the client.
        self.is_on = False

    def offer(self, head: bytes, end: bytes) -> bool:
        """Chunks are to be `head`, the text as a string of JSON, and `end`. False when the engine takes none now."""
        if not hasattr(os, "memfd_create"):
            return False
        with contextlib.suppress(OSError):
            self._copies = os.memfd_create("copies", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            files = (self._transport.get_extra_info("socket").fileno(), self._copies)
            if self._send({"head": head.decode(), "end": end.decode()}, files):
                return True
            self.close()
        return False

    def hear(self, event: bytes) -> None:
        """Take in what the engine says of the handover."""
        said = orjson.loads(event)
        if said["handover"] == "taken":
            self._answer_soon(TURNS)
        elif not self._transport.is_closing():
            self._transport.write(said["rest"].encode("latin-1"))

    def take_events(self) -> list[bytes]:
        """The data of those events whose text went straight to the client, each taken once."""
        if self._copies is None:
            return []
        unread = os.fstat(self._copies).st_size - self._read_bytes
        if not unread:
            return []
        block, end, _ = os.pread(self._copies, unread, self._read_bytes).rpartition(b"\n\n")
        self._read_bytes += len(block + end)
        return data_of(block)

    def has_grown(self) -> bool:
        """Whether the engine has written something since this was asked last."""
        seen = self._seen_bytes
        if self._copies is not None:
            self._seen_bytes = os.fstat(self._copies).st_size
        return self._seen_bytes > seen

    def close(self) -> list[bytes]:
        """Have the engine write nothing more to the client, whatever it is about to do: it cannot write the copy that
        comes before. Returns the last of `take_events`. Again changes nothing.
        """
        if self._copies is None:
            return []
        fcntl.fcntl(self._copies, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        last = self.take_events()
        os.close(self._copies)
        self._copies = None
        # Who is asked holds this one, too.
        self._is_busy = bool
        return last

    def _answer_soon(self, turns: int) -> None:
        # What was written in this turn of the loop goes out at its end.
        asyncio.get_running_loop().call_soon(self._answer, turns)

    def _answer(self, turns: int) -> None:
        if self._copies is None:
            return
        is_out = not self._is_busy() and not self._transport.get_write_buffer_size()
        if not is_out and turns > 1:
            self._answer_soon(turns - 1)
        else:
            self.is_on = is_out
            if not self._send({"go": is_out}):
                # The engine waits for it.
                asyncio.get_running_loop().call_later(AGAIN_S, self._answer, 1)

    def _send(self, said: dict[str, Any], files: tuple[int, ...] = ()) -> bool:
        """False when nobody is there, or is too busy to take it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendmsg([orjson.dumps({"id": self._id, **said})], rights, 0, self._path)
        except OSError:
            return False
        return True
